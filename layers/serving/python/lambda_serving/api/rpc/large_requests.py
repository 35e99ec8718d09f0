"""Large messages read in pieces, so that other calls are answered meanwhile and memory is counted.

protobuf reads a message in one go and holds Python's lock until it is done. Two bytes may become an
empty message of 160 bytes, so a few megabytes may take seconds and fill gigabytes. Here the fields
of a message are counted first, then passed to protobuf some kilobytes at a time.

Source: https://protobuf.dev/programming-guides/encoding, "Last One Wins" included.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from time import sleep
from typing import Any

import numpy as np

from lambda_serving.errors import InvalidArgument
from lambda_serving.protos.wire import LENGTH, ONE_BYTE, Field, Malformed, fields, head
from lambda_serving.protos.wire_blocks import Fields, parts

__all__ = ["read"]

_PIECE = 2**14
"""Bytes that protobuf reads at a time, unless one string or one array of numbers is longer."""
_LONG = 2**22
_SMALL = 64
"""In messages up to this size, in bytes, fields are not counted one by one."""
_DEEPEST = 100  # protobuf's own limit
_MESSAGE_BYTES, _FIELD_BYTES = 160, 32
"""Memory for a message, and for any other field, beside its content."""


def read(into: Any, body: bytes, hold: Callable[[int], None]) -> None:
    """Fills an empty message with a serialized one, as `MergeFromString` would.

    `hold` is called with the bytes that the fields will take, and may raise. Raises InvalidArgument
    for bytes that are no such message, and for groups, which no service here has.
    """
    from google.protobuf.message import DecodeError

    try:
        _count(into.DESCRIPTOR, body, 0, len(body), hold, 0)
        _merge(into, body, 0, len(body))
    except (DecodeError, Malformed) as error:
        raise InvalidArgument(f"The request is not a {into.DESCRIPTOR.name}") from error


def _count(
    descriptor: Any, body: bytes, start: int, end: int, hold: Callable[[int], None], depth: int
) -> None:
    """Calls `hold` for all fields of a message, several at a time."""
    if depth > _DEEPEST:
        raise Malformed("messages inside one another")
    inner_of = {
        number: each.message_type
        for number, each in descriptor.fields_by_number.items()
        if each.message_type
    }
    size = 0
    for part in parts(body, start, end):
        if isinstance(part, Fields):
            size += _size(part, inner_of)
            larger = _larger(part, inner_of)
        else:
            number, kind, _, content, after = part
            length = after - content
            larger = iter(())
            if number not in inner_of or kind != LENGTH:
                size += _FIELD_BYTES + length
            elif length <= _SMALL:
                size += _MESSAGE_BYTES * (1 + length // 2)  # a message has two bytes at least
            else:
                size += _MESSAGE_BYTES
                larger = iter([(number, content, after)])
        if size > _PIECE:
            hold(size)
            size = 0
        for number, content, after in larger:
            _count(inner_of[number], body, content, after, hold, depth + 1)
    hold(size)


def _size(some: Fields, inner_of: Mapping[int, Any]) -> int:
    """The sum of what each field would count by itself."""
    are_inner = _are_inner(some, inner_of)
    lengths = some.ends - some.contents
    other = lengths[~are_inner]
    small = lengths[are_inner & (lengths <= _SMALL)]
    messages = int(are_inner.sum()) + int((small // 2).sum())
    return int(other.sum()) + _FIELD_BYTES * len(other) + _MESSAGE_BYTES * messages


def _larger(some: Fields, inner_of: Mapping[int, Any]) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each message whose fields are counted one by one."""
    there = _are_inner(some, inner_of) & (some.ends - some.contents > _SMALL)
    columns = (column[there].tolist() for column in (some.numbers, some.contents, some.ends))
    return zip(*columns, strict=True)


def _are_inner(some: Fields, inner_of: Mapping[int, Any]) -> Any:
    return (some.kinds == LENGTH) & np.isin(some.numbers, list(inner_of))


def _merge(into: Any, body: bytes, start: int, end: int) -> None:
    known, first = into.DESCRIPTOR.fields_by_number, start
    for part in parts(body, start, end):
        if isinstance(part, Fields):
            after = part.end
            is_merged = False
        else:
            number, kind, begin, _, after = part
            if after - first <= _PIECE:
                continue
            is_large = kind == LENGTH and after - begin > _PIECE
            is_merged = is_large and _merge_large(into, known.get(number), body, first, part)
        if not is_merged:
            _merge_whole(into, body, first, after)
        first = after
    _merge_whole(into, body, first, end)


def _merge_whole(into: Any, body: bytes, start: int, end: int) -> None:
    piece = body[start:end]
    if len(piece) > _LONG:
        sleep(0)  # even copying so much holds other threads up
    into.MergeFromString(piece)


def _merge_large(into: Any, descriptor: Any, body: bytes, first: int, field: Field) -> bool:
    """Reads from `first` to the end of a large field; False if the field cannot be read in pieces.

    A large field that the message does not have is skipped.
    """
    inner = _message_type(descriptor)
    if descriptor is not None and inner is None and not _holds_numbers(descriptor):
        return False
    _, _, begin, content, end = field
    _merge_whole(into, body, first, begin)
    if descriptor is None:
        return True
    if inner is None:
        _merge_packed(into, descriptor, body, content, end)
    elif inner.GetOptions().map_entry:
        _merge_entry(into, descriptor, body, field)
    elif descriptor.is_repeated:
        _merge(getattr(into, descriptor.name).add(), body, content, end)
    else:
        one = getattr(into, descriptor.name)
        one.SetInParent()
        _merge(one, body, content, end)
    return True


def _merge_packed(into: Any, descriptor: Any, body: bytes, start: int, end: int) -> None:
    """Packed numbers, cut where one ends, whether varints or of fixed width."""
    is_fixed = descriptor.type in _fixed_types(descriptor)
    while start < end:
        until = min(end, start + _PIECE)
        while not is_fixed and until < end and body[until - 1] > ONE_BYTE:
            until += 1
        into.MergeFromString(head(descriptor.number, until - start) + body[start:until])
        start = until


def _merge_entry(into: Any, descriptor: Any, body: bytes, field: Field) -> None:
    """An entry of a map: the last entry of a key replaces earlier ones, it is not merged."""
    number, _, begin, content, end = field
    if _message_type(descriptor.message_type.fields_by_number[2]) is None:
        into.MergeFromString(body[begin:end])
        return
    key, (value, value_end) = _key_and_value(body, content, end)
    probe = type(into).FromString(head(number, len(key)) + key)
    (name,) = getattr(probe, descriptor.name)
    entries = getattr(into, descriptor.name)
    entries.pop(name, None)
    _merge(entries.get_or_create(name), body, value, value_end)


def _key_and_value(body: bytes, start: int, end: int) -> tuple[bytes, tuple[int, int]]:
    """Key and value in the order in which every library writes them; others are refused."""
    found = list(islice(fields(body, start, end), 3))
    if [field[:2] for field in found] != [(1, LENGTH), (2, LENGTH)]:
        raise Malformed("an entry of a map is not a key and a value")
    return body[start : found[0][4]], found[1][3:]


def _message_type(descriptor: Any) -> Any:
    return None if descriptor is None else descriptor.message_type


def _holds_numbers(descriptor: Any) -> bool:
    if not descriptor.is_repeated:
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
