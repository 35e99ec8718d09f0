"""Large messages read in pieces, so that others are answered meanwhile and memory is counted.

protobuf reads a message in one go, and holds Python's lock as long: two bytes make an empty
message of 160, so that megabytes of them take seconds and gigabytes. Here a message's fields are
counted first, then handed to protobuf some kilobytes at a time.

Source: https://protobuf.dev/programming-guides/encoding, last one wins and merging included.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from lambda_serving.errors import InvalidArgument

__all__ = ["read"]

_PIECE = 2**14
"""Bytes that protobuf reads at a time, unless one string or one array of numbers is longer."""
_SMALL = 64
"""Bytes of a message whose fields are not counted one by one."""
_DEEPEST = 100  # as protobuf's own bound
_MESSAGE_BYTES, _FIELD_BYTES = 160, 32
"""What a message, and any other field, takes beside its content."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT, _ONE_BYTE = 10, 0x7F


_Field = tuple[int, int, int, int, int]
"""Number, kind, and where its tag begins, its content begins and it ends; no class, for speed."""


class _Malformed(Exception):
    """What protobuf cannot read either."""


def read(into: Any, body: bytes, hold: Callable[[int], None]) -> None:
    """Fills an empty message with a serialized one, as `MergeFromString` would.

    `hold` is told how many bytes the fields take before they are made, and may raise. Raises
    InvalidArgument for what is no such message, and for groups, which no service here knows.
    """
    from google.protobuf.message import DecodeError

    try:
        _count(into.DESCRIPTOR, body, 0, len(body), hold, 0)
        _merge(into, body, 0, len(body))
    except (DecodeError, _Malformed) as error:
        raise InvalidArgument(f"The request is not a {into.DESCRIPTOR.name}") from error


def _fields(body: bytes, start: int, end: int) -> Iterator[_Field]:
    while start < end:
        tag, content = body[start], start + 1
        if tag > _ONE_BYTE:
            tag, content = _varint(body, start, end)
        kind = tag & 7
        if kind == _LENGTH:
            length, content = _varint(body, content, end)
            after = content + length
        elif kind == _VARINT:
            _, after = _varint(body, content, end)
        elif kind in (_FIXED64, _FIXED32):
            after = content + (8 if kind == _FIXED64 else 4)
        else:
            raise _Malformed(f"wire type {kind}")
        if after > end:
            raise _Malformed("a field ends behind its message")
        yield tag >> 3, kind, start, content, after
        start = after


def _varint(body: bytes, start: int, end: int) -> tuple[int, int]:
    """A number and where it ends."""
    if start < end and body[start] <= _ONE_BYTE:
        return body[start], start + 1
    number = shift = 0
    for position in range(start, min(end, start + _LONGEST_VARINT)):
        byte = body[position]
        number |= (byte & 0x7F) << shift
        if byte <= _ONE_BYTE:
            return number, position + 1
        shift += 7
    raise _Malformed("a number does not end")


def _count(
    descriptor: Any, body: bytes, start: int, end: int, hold: Callable[[int], None], depth: int
) -> None:
    """Tells `hold` of all fields of a message, some at a time."""
    if depth > _DEEPEST:
        raise _Malformed("messages inside one another")
    inner_of = {number: each.message_type for number, each in descriptor.fields_by_number.items()}
    size = 0
    for number, kind, _, content, after in _fields(body, start, end):
        inner, length = inner_of.get(number), after - content
        if inner is None or kind != _LENGTH:
            size += _FIELD_BYTES + length
        elif length <= _SMALL:
            size += _MESSAGE_BYTES * (1 + length // 2)  # a message has two bytes at least
        else:
            size += _MESSAGE_BYTES
            _count(inner, body, content, after, hold, depth + 1)
        if size > _PIECE:
            hold(size)
            size = 0
    hold(size)


def _merge(into: Any, body: bytes, start: int, end: int) -> None:
    known, first = into.DESCRIPTOR.fields_by_number, start
    for field in _fields(body, start, end):
        number, kind, begin, _, after = field
        if after - first <= _PIECE:
            continue
        large = kind == _LENGTH and after - begin > _PIECE
        if not (large and _merge_large(into, known.get(number), body, first, field)):
            into.MergeFromString(body[first:after])
        first = after
    if first < end:
        into.MergeFromString(body[first:end])


def _merge_large(into: Any, descriptor: Any, body: bytes, first: int, field: _Field) -> bool:
    """Reads what lies from `first` to the end of a large field; False if it is to come whole."""
    inner = _message_type(descriptor)
    if inner is None and not _holds_numbers(descriptor):
        return False
    _, _, begin, content, end = field
    into.MergeFromString(body[first:begin])
    if inner is None:
        _merge_packed(into, descriptor, body[content:end])
    elif inner.GetOptions().map_entry:
        _merge_entry(into, descriptor, body, field)
    elif descriptor.is_repeated:
        _merge(getattr(into, descriptor.name).add(), body, content, end)
    else:
        one = getattr(into, descriptor.name)
        one.SetInParent()
        _merge(one, body, content, end)
    return True


def _merge_packed(into: Any, descriptor: Any, numbers: bytes) -> None:
    """Numbers in a row; they are cut where one ends, be it a varint or eight bytes wide."""
    start, is_fixed = 0, descriptor.type in _fixed_types(descriptor)
    while start < len(numbers):
        end = min(len(numbers), start + _PIECE)
        while not is_fixed and end < len(numbers) and numbers[end - 1] > _ONE_BYTE:
            end += 1
        into.MergeFromString(_head(descriptor.number, end - start) + numbers[start:end])
        start = end


def _merge_entry(into: Any, descriptor: Any, body: bytes, field: _Field) -> None:
    """An entry of a map: of one key the last one counts, and is no merger of all."""
    number, _, begin, content, end = field
    if _message_type(descriptor.message_type.fields_by_number[2]) is None:
        into.MergeFromString(body[begin:end])
        return
    key, (value, value_end) = _key_and_value(body, content, end)
    probe = type(into).FromString(_head(number, len(key)) + key)
    (name,) = getattr(probe, descriptor.name)
    entries = getattr(into, descriptor.name)
    entries.pop(name, None)
    _merge(entries.get_or_create(name), body, value, value_end)


def _key_and_value(body: bytes, start: int, end: int) -> tuple[bytes, tuple[int, int]]:
    """As every library writes an entry; others would be read in ways that are hard to tell."""
    fields = list(islice(_fields(body, start, end), 3))
    if [field[:2] for field in fields] != [(1, _LENGTH), (2, _LENGTH)]:
        raise _Malformed("an entry of a map is not a key and a value")
    return body[start : fields[0][4]], fields[1][3:]


def _message_type(descriptor: Any) -> Any:
    return None if descriptor is None else descriptor.message_type


def _holds_numbers(descriptor: Any) -> bool:
    if descriptor is None or not descriptor.is_repeated:
        return False
    return descriptor.type not in (descriptor.TYPE_STRING, descriptor.TYPE_BYTES)


def _fixed_types(descriptor: Any) -> tuple[int, ...]:
    return (
        descriptor.TYPE_FLOAT,
        descriptor.TYPE_DOUBLE,
        descriptor.TYPE_FIXED32,
        descriptor.TYPE_FIXED64,
        descriptor.TYPE_SFIXED32,
        descriptor.TYPE_SFIXED64,
    )


def _head(number: int, length: int) -> bytes:
    return _written(number << 3 | _LENGTH) + _written(length)


def _written(number: int) -> bytes:
    groups = []
    while number > _ONE_BYTE:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*groups, number))
