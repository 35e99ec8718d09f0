"""`TensorProto` to numpy array and back.

Source: tensorflow/core/framework/tensor.cc. `Tensor::FromProto`: fewer values than elements
repeat the last one (none at all: zeros), more are ignored. `Tensor::AsProtoField`: every value in
the field of its dtype; `Tensor::AsProtoTensorContent`: the elements' bytes.
"""

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument

__all__ = ["fill", "to_array"]

_VARINT = re.compile(rb"[\x80-\xff]{0,4}[\x00-\x7f]")  # of at most 32 bits

_FIELDS = {
    DType.FLOAT: "float_val",
    DType.DOUBLE: "double_val",
    DType.INT32: "int_val",
    DType.UINT8: "int_val",
    DType.INT16: "int_val",
    DType.INT8: "int_val",
    DType.UINT16: "int_val",
    DType.STRING: "string_val",
    DType.COMPLEX64: "scomplex_val",
    DType.COMPLEX128: "dcomplex_val",
    DType.INT64: "int64_val",
    DType.BOOL: "bool_val",
    DType.HALF: "half_val",
    DType.BFLOAT16: "half_val",
    DType.UINT32: "uint32_val",
    DType.UINT64: "uint64_val",
}
_AS_IN_MEMORY = {DType.FLOAT, DType.DOUBLE, DType.COMPLEX64, DType.COMPLEX128, DType.BOOL}
"""The dtypes whose repeated field, packed, is the elements' bytes."""


def fill(proto: Any, array: Array, *, as_content: bool = False) -> None:
    """Makes an empty `TensorProto` stand for an array: by values, or by `tensor_content`."""
    dtype = DType.of(array.dtype)
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()  # a scalar has a shape, too
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content:
        proto.tensor_content = _content(array, dtype)
    elif dtype in _AS_IN_MEMORY:
        proto.MergeFromString(_packed(proto, _FIELDS[dtype], array.tobytes()))
    elif dtype in (DType.HALF, DType.BFLOAT16):
        proto.half_val.extend(array.view(np.uint16).ravel().tolist())
    else:
        getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())


def to_array(proto: Any, max_bytes: int | None = None) -> Array:
    """The array that a `TensorProto` stands for, strings as objects of `bytes`.

    It may be a read-only view of the proto's bytes. Raises InvalidArgument for a dtype or a shape
    that no array can have, for content of the wrong length, and for an array of more than
    `max_bytes`, which a short proto can ask for by repeating a value.
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise InvalidArgument("A tensor's shape must be fully known")
    try:
        dtype = DType(proto.dtype)
        field = _FIELDS[dtype]
    except (ValueError, KeyError):
        raise InvalidArgument(f"A tensor of dtype {proto.dtype} is not supported") from None
    if max_bytes is not None and (size := prod(shape) * dtype.numpy.itemsize) > max_bytes:
        raise InvalidArgument(
            f"A tensor of shape {list(shape)} takes {size} bytes, over the limit of {max_bytes}"
        )
    if not proto.tensor_content or not prod(shape):
        return _from_values(_elements(getattr(proto, field), dtype), dtype, shape)
    if dtype is DType.STRING:
        return _from_values(_strings(proto.tensor_content, prod(shape)), dtype, shape)
    return _from_content(proto.tensor_content, dtype, shape)


def _from_content(content: bytes, dtype: DType, shape: tuple[int, ...]) -> Array:
    wanted = prod(shape) * dtype.numpy.itemsize
    if len(content) != wanted:
        raise InvalidArgument(
            f"tensor_content has {len(content)} bytes, {dtype.label} of shape {list(shape)}"
            f" needs {wanted}"
        )
    return np.frombuffer(content, dtype.numpy).reshape(shape)


def _from_values(values: Sequence[Any] | Array, dtype: DType, shape: tuple[int, ...]) -> Array:
    count = prod(shape)
    try:
        array: Array = np.empty(count, dtype.numpy)
    except (MemoryError, OverflowError, ValueError):
        raise InvalidArgument(f"A tensor of shape {list(shape)} is too large") from None
    if len(values) > count:
        values = values[:count]
    array[: len(values)] = values  # a repeated field of numbers gives its memory
    array[len(values) :] = values[-1] if len(values) else (b"" if dtype is DType.STRING else 0)
    return array.reshape(shape)


def _elements(values: Sequence[Any], dtype: DType) -> Sequence[Any] | Array:
    """What the repeated field of a proto holds, as elements of `dtype`."""
    if dtype in (DType.COMPLEX64, DType.COMPLEX128):
        parts = np.array(values, np.float32 if dtype is DType.COMPLEX64 else np.float64)
        return parts[: len(parts) // 2 * 2].view(dtype.numpy)
    if dtype in (DType.HALF, DType.BFLOAT16):  # the proto holds their bits
        return np.array(values, np.int64).astype(np.uint16).view(dtype.numpy)
    if dtype in (DType.INT8, DType.UINT8, DType.INT16, DType.UINT16):  # wider in the proto
        return np.array(values, np.int64).astype(dtype.numpy)
    return values


def _content(array: Array, dtype: DType) -> bytes:
    if dtype is not DType.STRING:
        return array.tobytes()
    strings: list[bytes] = array.ravel().tolist()
    return b"".join((*(_varint(len(string)) for string in strings), *strings))


def _packed(proto: Any, field: str, values: bytes) -> bytes:
    """A packed repeated field as it is serialized: tag, length, values."""
    number = proto.DESCRIPTOR.fields_by_name[field].number
    return _varint(number << 3 | 2) + _varint(len(values)) + values


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*groups, number))


def _strings(content: bytes, count: int) -> list[bytes]:
    """Strings of `tensor_content`: all lengths as varints, then all bytes (tensor_coding.cc)."""
    lengths: list[int] = []
    start = 0
    while len(lengths) < count and (varint := _VARINT.match(content, start)):
        lengths.append(sum((byte & 0x7F) << 7 * i for i, byte in enumerate(varint[0])))
        start = varint.end()
    if len(lengths) < count or start + sum(lengths) != len(content):
        raise InvalidArgument(f"tensor_content does not hold {count} strings")
    ends = accumulate(lengths, initial=start)
    return [content[start:end] for start, end in pairwise(ends)]
