"""The dtypes of the test models `identity_DTYPE`."""

from lambda_serving.dtypes import DType

__all__ = ["NUMBERS"]

NUMBERS = {
    "float32": DType.FLOAT,
    "float64": DType.DOUBLE,
    "int8": DType.INT8,
    "uint8": DType.UINT8,
    "int16": DType.INT16,
    "uint16": DType.UINT16,
    "int32": DType.INT32,
    "uint32": DType.UINT32,
    "int64": DType.INT64,
    "uint64": DType.UINT64,
    "bool": DType.BOOL,
    "half": DType.HALF,
    "bfloat16": DType.BFLOAT16,
    "complex64": DType.COMPLEX64,
}
"""Those of numbers and truth values; there is a model of strings too."""
