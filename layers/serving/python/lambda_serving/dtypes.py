"""TensorFlow's dtypes: their numbers in protos and in the C API, their names, their numpy twins.

Source: tensorflow/core/framework/types.proto.
"""

from enum import IntEnum
from functools import cache, lru_cache
from typing import Any

import numpy as np

__all__ = ["MOST_DIMENSIONS", "Array", "DType"]

MOST_DIMENSIONS = 64
"""What numpy takes; TensorFlow takes 254."""

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

    @property
    def label(self) -> str:
        """The name that TensorFlow prints in its messages, e.g. `float`."""
        return self.name.lower()

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype of arrays that hold it: `object` (of `bytes`) for strings.

        Raises KeyError for a dtype that no array can hold (resource, variant, quantised).
        """
        return _numpy(self)

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> "DType":
        """The TensorFlow dtype of an array's dtype; raises KeyError if there is none."""
        return _of(dtype)


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
    DType.BFLOAT16: "bfloat16",
    DType.UINT16: "uint16",
    DType.COMPLEX128: "complex128",
    DType.HALF: "float16",
    DType.UINT32: "uint32",
    DType.UINT64: "uint64",
}
_BY_NUMPY_NAME = {name: dtype for dtype, name in _NUMPY_NAMES.items()}


@lru_cache(maxsize=256)  # numpy takes microseconds to name a dtype
def _of(dtype: np.dtype[Any]) -> DType:
    if dtype.kind in "OSU":
        return DType.STRING
    return _BY_NUMPY_NAME[dtype.name]


@cache
def _numpy(dtype: DType) -> np.dtype[Any]:
    if dtype is DType.BFLOAT16:
        import ml_dtypes  # only models with this dtype pay for the import

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NUMPY_NAMES[dtype])
