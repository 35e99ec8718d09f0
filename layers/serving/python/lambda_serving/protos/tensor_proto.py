"""`TensorProto` to numpy array and back.

Source: tensorflow/core/framework/tensor.cc. `Tensor::FromProto`: if there are fewer values than
elements, the last one is repeated (without any, elements are zero); more are ignored.
`Tensor::AsProtoField` writes each value to the field of its dtype, `Tensor::AsProtoTensorContent`
the elements' bytes.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from lambda_serving.dtypes import MOST_DIMENSIONS, Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.protos import wire

__all__ = [
    "LARGEST",
    "STRING_BYTES",
    "Claim",
    "add_values",
    "claim",
    "content",
    "describe",
    "fill",
    "to_array",
]

LARGEST = 2**31 - 1
"""Bytes of the largest array that a proto may stand for, and of the largest message."""
STRING_BYTES = 32
"""Memory for a string beside its content: 24 in TensorFlow, 8 in an array of objects."""

_PART = 2**16  # elements
_LONGEST_LENGTH = 5  # bytes of a varint of 32 bits

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
    DType.QINT8: "int_val",
    DType.QUINT8: "int_val",
    DType.QINT16: "int_val",
    DType.QUINT16: "int_val",
    DType.QINT32: "int_val",
    DType.INT4: "int_val",
    DType.UINT4: "int_val",
    DType.INT2: "int_val",
    DType.UINT2: "int_val",
    DType.FLOAT8_E5M2: "float8_val",
    DType.FLOAT8_E4M3FN: "float8_val",
    DType.FLOAT8_E4M3FNUZ: "float8_val",
    DType.FLOAT8_E4M3B11FNUZ: "float8_val",
    DType.FLOAT8_E5M2FNUZ: "float8_val",
    DType.FLOAT4_E2M1FN: "float8_val",
}
_STORED = {
    DType.HALF: "u2",
    DType.BFLOAT16: "u2",
    DType.QINT8: "i1",
    DType.QUINT8: "u1",
    DType.QINT16: "i2",
    DType.QUINT16: "u2",
    DType.QINT32: "i4",
    DType.INT4: "i1",
    DType.UINT4: "u1",
    DType.INT2: "i1",
    DType.UINT2: "u1",
}
"""The integers that a proto holds for elements that are not numbers to numpy."""
_AS_IN_MEMORY = {DType.FLOAT, DType.DOUBLE, DType.COMPLEX64, DType.COMPLEX128, DType.BOOL}
"""The dtypes whose packed field has the same bytes as the array."""


def fill(proto: Any, array: Array, *, as_content: bool = False) -> None:
    """Writes an array into an empty `TensorProto`, as values or as `tensor_content`."""
    describe(proto, array)
    if as_content:
        proto.tensor_content = content(array)
    else:
        add_values(proto, array)


def describe(proto: Any, array: Array) -> None:
    """Writes the dtype and the shape of an array into an empty `TensorProto`."""
    proto.dtype = DType.of(array.dtype)
    proto.tensor_shape.SetInParent()  # a scalar has a shape, too
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)


def add_values(proto: Any, array: Array) -> None:
    """Adds the values of an array to those of a `TensorProto`."""
    dtype = DType.of(array.dtype)
    if dtype in _AS_IN_MEMORY:
        proto.MergeFromString(_packed(proto, _FIELDS[dtype], array.tobytes()))
    elif _FIELDS[dtype] == "float8_val":  # one field of bytes, not a repeated one
        proto.float8_val += array.tobytes()
    else:
        array = array.view(_STORED[dtype]) if dtype in _STORED else array
        getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())


def content(array: Array) -> bytes:
    """The `tensor_content` of an array."""
    if DType.of(array.dtype) is not DType.STRING:
        return array.tobytes()
    strings: list[bytes] = array.ravel().tolist()
    lengths = [b"".join([wire.varint(len(each)) for each in part]) for part in _parts(strings)]
    return b"".join(lengths + [b"".join(part) for part in _parts(strings)])


class Claim(NamedTuple):
    """The array that a `TensorProto` claims to be, of `size` bytes including content of strings.

    The array does not exist yet: a short proto may stand for a large one by repeating a value.
    """

    proto: Any
    dtype: DType
    shape: tuple[int, ...]
    size: int
    strings: Sequence[bytes] = ()
    """The strings in the proto."""

    def check(self, max_bytes: int) -> None:
        """Raises InvalidArgument if the array takes more than `max_bytes`."""
        if self.size > max_bytes:
            raise InvalidArgument(
                f"A tensor of shape {list(self.shape)} takes {self.size} bytes, over the limit of"
                f" {max_bytes}"
            )

    def array(self) -> Array:
        """The array, with strings as `bytes` objects; it may be a view of the proto's bytes.

        Raises InvalidArgument for content of the wrong length.
        """
        dtype, count = self.dtype, prod(self.shape)
        if dtype is DType.STRING:
            return _filled(self.strings, b"", dtype, self.shape)
        if (held := self.proto.tensor_content) and count:
            return _from_content(held, dtype, self.shape)
        values = _elements(getattr(self.proto, _FIELDS[dtype]), dtype, count)
        return _filled(values, 0, dtype, self.shape)


def claim(proto: Any, max_bytes: int = LARGEST) -> Claim:
    """The array that a proto claims to be, of at most `max_bytes`.

    Sizes of 0 in a shape count as 1: kernels multiply the other sizes, and some abort on overflow.
    Raises InvalidArgument for a larger array, and for a dtype or shape that no array can have.
    """
    dtype = _dtype(proto)
    shape = _shape(proto)
    made = Claim(proto, dtype, shape, _product(shape) * _element_size(dtype))
    made.check(max_bytes)
    if dtype is not DType.STRING:
        return made
    count = prod(shape)
    strings = _strings(proto, count)
    repeated = (count - len(strings)) * len(strings[-1]) if strings else 0
    size = made.size + sum(sum(map(len, part)) for part in _parts(strings)) + repeated
    made = Claim(proto, dtype, shape, size, strings)
    made.check(max_bytes)
    return made


def to_array(proto: Any, max_bytes: int = LARGEST) -> Array:
    """The array that a proto stands for; raises as `claim` and `Claim.array` do."""
    return claim(proto, max_bytes).array()


def _product(shape: tuple[int, ...]) -> int:
    return prod(shape) or prod(size or 1 for size in shape)


def _dtype(proto: Any) -> DType:
    try:
        dtype = DType(proto.dtype)
        _FIELDS[dtype]
    except (ValueError, KeyError):
        raise InvalidArgument(f"A tensor of dtype {proto.dtype} is not supported") from None
    return dtype


def _shape(proto: Any) -> tuple[int, ...]:
    """Like TensorFlow, this ignores `unknown_rank`."""
    dims = proto.tensor_shape.dim
    if len(dims) > MOST_DIMENSIONS:
        raise InvalidArgument(
            f"A tensor has {len(dims)} dimensions, at most {MOST_DIMENSIONS} are supported"
        )
    shape = tuple(dim.size for dim in dims)
    if min(shape, default=0) < 0:
        raise InvalidArgument("A tensor's shape must be fully known")
    return shape


def _element_size(dtype: DType) -> int:
    return STRING_BYTES if dtype is DType.STRING else dtype.numpy.itemsize


def _from_content(held: bytes, dtype: DType, shape: tuple[int, ...]) -> Array:
    wanted = prod(shape) * dtype.numpy.itemsize
    if len(held) != wanted:
        raise InvalidArgument(
            f"tensor_content has {len(held)} bytes, {dtype.label} of shape {list(shape)}"
            f" needs {wanted}"
        )
    return np.frombuffer(held, dtype.numpy).reshape(shape)


def _filled(
    values: Sequence[Any] | Array, blank: object, dtype: DType, shape: tuple[int, ...]
) -> Array:
    """An array of the values; the last one is repeated, or `blank` if there are none."""
    array: Array = np.empty(prod(shape), dtype.numpy)
    place = 0
    for part in _parts(values):
        array[place : place + len(part)] = part
        place += len(part)
    last = values[-1] if len(values) else blank
    for start in range(place, len(array), _PART):
        array[start : start + _PART] = last
    return array.reshape(shape)


def _parts(values: Sequence[Any] | Array) -> Iterator[Any]:
    """Parts short enough for one call of C, during which no other thread runs."""
    for start in range(0, len(values), _PART):
        yield values[start : start + _PART]


def _elements(values: Sequence[Any], dtype: DType, count: int) -> Array:
    """At most `count` elements of `dtype` from the repeated field of a proto."""
    if isinstance(values, bytes):  # float8_val
        return np.frombuffer(values, dtype.numpy)[:count]
    given: Array = np.asarray(values)  # copies the field's memory
    if dtype in (DType.COMPLEX64, DType.COMPLEX128):
        return given[: min(len(given) // 2, count) * 2].view(dtype.numpy)
    given = given[:count]
    if dtype in _STORED:
        return given.astype(_STORED[dtype]).view(dtype.numpy)
    return given.astype(dtype.numpy, copy=False)  # some dtypes are wider in the proto


def _packed(proto: Any, field: str, values: bytes) -> bytes:
    """A packed repeated field, serialized."""
    number = proto.DESCRIPTOR.fields_by_name[field].number
    return wire.field(number, values)


def _strings(proto: Any, count: int) -> list[bytes]:
    """The strings in a proto, at most `count`."""
    if not (proto.tensor_content and count):
        given, few = proto.string_val, []
        for start in range(0, min(len(given), count), _PART):
            few += given[start : min(start + _PART, count)]
        return few
    strings = _from_string_content(proto.tensor_content, count)
    if strings is None:
        raise InvalidArgument(f"tensor_content does not hold {count} strings")
    return strings


def _from_string_content(held: bytes, count: int) -> list[bytes] | None:
    """Strings from all lengths, then all bytes (tensor_coding.cc); None for any other content."""
    if count > len(held):
        return None
    lengths: list[int] = []
    start = 0
    try:
        for _ in range(count):
            most = min(len(held), start + _LONGEST_LENGTH)
            length, start = wire.read_varint(held, start, most)
            lengths.append(length)
    except wire.Malformed:
        return None
    if start + sum(lengths) != len(held):
        return None
    ends = accumulate(lengths, initial=start)
    return [held[start:end] for start, end in pairwise(ends)]
