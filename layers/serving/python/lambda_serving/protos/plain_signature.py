"""Reads and writes a plain `SignatureDef` without protobuf, which would import 35 modules more.

A plain one names tensors with a dtype and a shape, as nearly all do; what else a `SignatureDef` may
hold, protobuf reads. A test compares with protobuf.
Source: tensorflow/core/protobuf/meta_graph.proto, framework/tensor_shape.proto.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lambda_serving.protos.wire import LENGTH, VARINT, Malformed, field, fields, read_varint, varint

__all__ = ["PlainSignature", "TensorInfo", "read", "read_map", "write"]

_INPUTS, _OUTPUTS, _METHOD_NAME = 1, 2, 3
_KEY, _VALUE = 1, 2
_NAME, _DTYPE, _SHAPE = 1, 2, 3
_DIM, _UNKNOWN_RANK = 2, 3
_SIZE = 1
_INT64 = 2**63


class TensorInfo(NamedTuple):
    """A tensor's name in the graph, number of its dtype, and shape.

    Sizes are -1 for a free dimension; the shape is None if the rank is unknown.
    """

    name: str
    dtype: int
    shape: tuple[int, ...] | None


class PlainSignature(NamedTuple):
    """A `SignatureDef` without default values, of plain tensors only."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method_name: str


def read(serialized: bytes) -> PlainSignature | None:
    """What a serialized `SignatureDef` holds; None if it is not plain or not even a message."""
    try:
        entries = _split(serialized, {_INPUTS: LENGTH, _OUTPUTS: LENGTH, _METHOD_NAME: LENGTH})
        return PlainSignature(
            _infos(entries[_INPUTS]),
            _infos(entries[_OUTPUTS]),
            _only(entries[_METHOD_NAME]).decode(),
        )
    except (Malformed, UnicodeDecodeError):
        return None


def read_map(serialized: bytes) -> dict[str, bytes]:
    """The serialized `SignatureDef`s in a `SignatureDefMap` by name; raises Malformed."""
    try:
        return _map(_split(serialized, {1: LENGTH})[1])
    except UnicodeDecodeError as error:
        raise Malformed(str(error)) from None


def write(signature: PlainSignature) -> bytes:
    """A serialized `SignatureDef`, its tensors sorted by name."""
    method_name = signature.method_name.encode()
    return b"".join(
        (
            *_entries(_INPUTS, signature.inputs),
            *_entries(_OUTPUTS, signature.outputs),
            field(_METHOD_NAME, method_name) if method_name else b"",
        )
    )


def _infos(entries: Iterable[bytes]) -> dict[str, TensorInfo]:
    return {name: _info(content) for name, content in _map(entries).items()}


def _map(entries: Iterable[bytes]) -> dict[str, bytes]:
    """The values of a map by key, in the order of their first entries."""
    found = {}
    for entry in entries:
        parts = _split(entry, {_KEY: LENGTH, _VALUE: LENGTH})
        found[_only(parts[_KEY]).decode()] = _only(parts[_VALUE])
    return found


def _info(content: bytes) -> TensorInfo:
    parts = _split(content, {_NAME: LENGTH, _DTYPE: VARINT, _SHAPE: LENGTH})
    if not parts[_NAME]:
        raise Malformed("no plain tensor")
    return TensorInfo(
        _only(parts[_NAME]).decode(), _number(parts[_DTYPE]), _shape(_only(parts[_SHAPE]))
    )


def _shape(content: bytes) -> tuple[int, ...] | None:
    parts = _split(content, {_DIM: LENGTH, _UNKNOWN_RANK: VARINT})
    sizes = tuple(_number(_split(dim, {_SIZE: VARINT})[_SIZE]) for dim in parts[_DIM])
    return None if _number(parts[_UNKNOWN_RANK]) else sizes


def _split(content: bytes, kinds: Mapping[int, int]) -> dict[int, list[bytes]]:
    """The contents of a message's fields by number; raises Malformed for one of another kind."""
    found: dict[int, list[bytes]] = {number: [] for number in kinds}
    for number, kind, _, start, end in fields(content, 0, len(content)):
        if kinds.get(number) != kind:
            raise Malformed(f"the field {number} of kind {kind}")
        found[number].append(content[start:end])
    return found


def _only(values: list[bytes]) -> bytes:
    """The value of a field, empty if it is absent; raises Malformed if there are several."""
    if len(values) > 1:
        raise Malformed("a field occurs twice")
    return values[0] if values else b""


def _number(values: list[bytes]) -> int:
    content = _only(values) or b"\0"
    number, _ = read_varint(content, 0, len(content))
    if number >= 2 * _INT64:
        raise Malformed("a number of more than 64 bits")
    return number - 2 * _INT64 if number >= _INT64 else number


def _entries(number: int, infos: Mapping[str, TensorInfo]) -> list[bytes]:
    pairs = sorted((name.encode(), info) for name, info in infos.items())
    return [field(number, field(_KEY, name) + field(_VALUE, _bytes(info))) for name, info in pairs]


def _bytes(info: TensorInfo) -> bytes:
    dtype = _scalar(_DTYPE, info.dtype)
    if info.shape is None:
        shape = field(_SHAPE, _scalar(_UNKNOWN_RANK, 1))
    elif info.shape:
        dims = (field(_DIM, _scalar(_SIZE, size)) for size in info.shape)
        shape = field(_SHAPE, b"".join(dims))
    else:
        shape = b""
    return field(_NAME, info.name.encode()) + dtype + shape


def _scalar(number: int, value: int) -> bytes:
    """A field with a number; nothing for 0, which is what protobuf reads if it is absent."""
    return varint(number << 3 | VARINT) + varint(value % (2 * _INT64)) if value else b""
