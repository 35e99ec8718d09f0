"""DType against the dtypes of the installed TensorFlow."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lambda_serving.dtypes import DType

_NOT_HELD = [
    DType.INVALID,
    DType.RESOURCE,
    DType.VARIANT,
]
_HELD = sorted(set(DType) - set(_NOT_HELD))


@pytest.mark.parametrize("dtype", DType)
def test_number_is_that_of_the_proto_enum(dtype: DType) -> None:
    from tensorflow.core.framework import types_pb2

    assert types_pb2.DataType.Value(f"DT_{dtype.name}") == dtype


@pytest.mark.parametrize("dtype", _HELD)
def test_array_dtype_is_the_one_tensorflow_gives(dtype: DType) -> None:
    import tensorflow as tf

    assert dtype.numpy == np.dtype(tf.as_dtype(int(dtype)).as_numpy_dtype)
    assert DType.of(dtype.numpy) is dtype


@pytest.mark.parametrize("dtype", set(DType) - {DType.INVALID})
def test_reference_is_of_the_dtype_that_a_run_reads(dtype: DType) -> None:
    from tensorflow.core.framework import types_pb2

    assert DType.of_number(types_pb2.DataType.Value(f"DT_{dtype.name}_REF")) is dtype
    assert DType.of_number(dtype) is dtype


def test_no_dtype_of_tensorflow_is_forgotten() -> None:
    from tensorflow.core.framework import types_pb2

    assert {DType.of_number(number) for number in types_pb2.DataType.values()} == set(DType)


@pytest.mark.parametrize("number", [-1, 34, 99, 100, 134, 9999])
def test_number_of_no_dtype_is_a_value_error(number: int) -> None:
    with pytest.raises(ValueError, match="is not a valid DType"):
        DType.of_number(number)


@pytest.mark.parametrize("dtype", _NOT_HELD)
def test_dtype_that_no_array_holds_has_no_numpy_twin(dtype: DType) -> None:
    with pytest.raises(KeyError):
        assert dtype.numpy


@pytest.mark.parametrize(
    ("array_dtype", "dtype"),
    [
        (">f4", DType.FLOAT),
        ("<f8", DType.DOUBLE),
        ("S3", DType.STRING),
        ("U3", DType.STRING),
        (object, DType.STRING),
        (ml_dtypes.bfloat16, DType.BFLOAT16),
        (np.longlong, DType.INT64),
    ],
)
def test_byte_order_and_width_of_characters_do_not_matter(array_dtype: Any, dtype: DType) -> None:
    assert DType.of(np.dtype(array_dtype)) is dtype


@pytest.mark.parametrize("array_dtype", ["datetime64[s]", "V8", "f4,f4", np.longdouble])
def test_array_dtype_without_a_tensor_twin_is_a_key_error(array_dtype: Any) -> None:
    with pytest.raises(KeyError):
        DType.of(np.dtype(array_dtype))


@pytest.mark.parametrize(
    ("dtype", "label"), [(DType.FLOAT, "float"), (DType.HALF, "half"), (DType.STRING, "string")]
)
def test_label_is_the_name_in_messages(dtype: DType, label: str) -> None:
    assert dtype.label == label
