"""TensorFlow's dtypes: their numbers in protos and the C API, their names and their numpy dtypes.

Source: tensorflow/core/framework/types.proto.
"""

from enum import IntEnum
from functools import cache, lru_cache
from typing import Any

import numpy as np

__all__ = ["MOST_DIMENSIONS", "Array", "DType"]

MOST_DIMENSIONS = 64
"""The most that numpy supports; TensorFlow supports 254."""

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of any shape and of a dtype known only at run time; strings are objects of `bytes`."""


class DType(IntEnum):
    """A TensorFlow dtype; the number is that of `DataType` and of `TF_DataType`."""

    INVALID = 0
    FLOAT = 1
    DOUBLE = 2
    INT32 = 3
    UINT8 = 4
    INT16 = 5
    INT8 = 6
    STRING = 7
    COMPLEX64 = 8
    INT64 = 9
    BOOL = 10
    QINT8 = 11
    QUINT8 = 12
    QINT32 = 13
    BFLOAT16 = 14
    QINT16 = 15
    QUINT16 = 16
    UINT16 = 17
    COMPLEX128 = 18
    HALF = 19
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22
    UINT64 = 23
    FLOAT8_E5M2 = 24
    FLOAT8_E4M3FN = 25
    FLOAT8_E4M3FNUZ = 26
    FLOAT8_E4M3B11FNUZ = 27
    FLOAT8_E5M2FNUZ = 28
    INT4 = 29
    UINT4 = 30
    INT2 = 31
    UINT2 = 32
    FLOAT4_E2M1FN = 33

    @property
    def label(self) -> str:
        """The name in TensorFlow's messages, e.g. `float`."""
        return self.name.lower()

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype of arrays with such values: `object` (of `bytes`) for strings.

        Quantized dtypes have one field with their name, as in Python TensorFlow. Raises KeyError
        for a dtype that no array can hold (resource, variant).
        """
        return _numpy(self)

    @classmethod
    def of_number(cls, number: int) -> "DType":
        """The dtype for a number in a proto.

        `DT_FLOAT_REF`, a reference to a variable of TensorFlow 1, gives FLOAT: a run reads such a
        variable. Raises ValueError for a number that is no dtype.
        """
        return cls(number - _REFERENCE if number > _REFERENCE else number)

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> "DType":
        """The TensorFlow dtype of an array's dtype; raises KeyError if there is none."""
        return _of(dtype)


_REFERENCE = 100
"""Added to a dtype's number, it gives that of references to it."""
_QUANTIZED = {
    DType.QINT8: np.dtype([("qint8", "i1")]),
    DType.QUINT8: np.dtype([("quint8", "u1")]),
    DType.QINT32: np.dtype([("qint32", "i4")]),
    DType.QINT16: np.dtype([("qint16", "i2")]),
    DType.QUINT16: np.dtype([("quint16", "u2")]),
}
_BY_QUANTIZED = {array: dtype for dtype, array in _QUANTIZED.items()}
_IN_ML_DTYPES = {DType.BFLOAT16, *(dtype for dtype in DType if dtype >= DType.FLOAT8_E5M2)}
_NUMPY_NAMES = {
    DType.FLOAT: "float32",
    DType.DOUBLE: "float64",
    DType.INT32: "int32",
    DType.UINT8: "uint8",
    DType.INT16: "int16",
    DType.INT8: "int8",
    DType.STRING: "object",
    DType.COMPLEX64: "complex64",
    DType.INT64: "int64",
    DType.BOOL: "bool",
    DType.UINT16: "uint16",
    DType.COMPLEX128: "complex128",
    DType.HALF: "float16",
    DType.UINT32: "uint32",
    DType.UINT64: "uint64",
    **{dtype: dtype.label for dtype in _IN_ML_DTYPES},
}
_BY_NUMPY_NAME = {name: dtype for dtype, name in _NUMPY_NAMES.items()}


@lru_cache(maxsize=256)  # numpy needs microseconds to name a dtype
def _of(dtype: np.dtype[Any]) -> DType:
    if dtype.kind in "OSU":
        return DType.STRING
    if dtype.names:
        return _BY_QUANTIZED[dtype]
    return _BY_NUMPY_NAME[dtype.name]


@cache
def _numpy(dtype: DType) -> np.dtype[Any]:
    if dtype in _QUANTIZED:
        return _QUANTIZED[dtype]
    if dtype in _IN_ML_DTYPES:
        import ml_dtypes  # only models with such a dtype need it

        held: np.dtype[Any] = np.dtype(getattr(ml_dtypes, dtype.label))
        return held
    return np.dtype(_NUMPY_NAMES[dtype])
