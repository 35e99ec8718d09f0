"""The encoding of protocol messages: fields read one by one, and the bytes around a field written.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

__all__ = [
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "LONGEST_VARINT",
    "ONE_BYTE",
    "SMALLEST_TAG",
    "VARINT",
    "Field",
    "Malformed",
    "field",
    "fields",
    "head",
    "read_varint",
    "varint",
]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""The kinds of fields, in the lowest three bits of a tag."""
LONGEST_VARINT = 10  # bytes
ONE_BYTE = 0x7F
"""The largest varint of one byte."""
SMALLEST_TAG, _LARGEST_TAG = 8, 2**32 - 1

Field = tuple[int, int, int, int, int]
"""Number, kind, and where its tag begins, its content begins and it ends; no class, for speed."""


class Malformed(Exception):
    """Bytes that protobuf cannot read either, or a group."""


def head(number: int, length: int) -> bytes:
    """The tag and the length in front of a field's content."""
    return varint(number << 3 | LENGTH) + varint(length)


def field(number: int, content: bytes) -> bytes:
    """A field that holds bytes, a message or packed numbers."""
    return head(number, len(content)) + content


def varint(number: int) -> bytes:
    """The encoding of a number that is not negative."""
    groups = []
    while number > ONE_BYTE:
        groups.append(number & ONE_BYTE | 0x80)
        number >>= 7
    return bytes((*groups, number))


def fields(body: bytes, start: int, end: int) -> Iterator[Field]:
    """Every field of a message, one by one. Raises Malformed."""
    while start < end:
        tag, content = body[start], start + 1
        if tag > ONE_BYTE:
            tag, content = read_varint(body, start, end)
        if not SMALLEST_TAG <= tag <= _LARGEST_TAG:
            raise Malformed(f"tag {tag}")
        kind = tag & 7
        if kind == LENGTH:
            length, content = read_varint(body, content, end)
            after = content + length
        elif kind == VARINT:
            _, after = read_varint(body, content, end)
        elif kind in (FIXED64, FIXED32):
            after = content + (8 if kind == FIXED64 else 4)
        else:
            raise Malformed(f"wire type {kind}")
        if after > end:
            raise Malformed("a field ends behind its message")
        yield tag >> 3, kind, start, content, after
        start = after


def read_varint(body: bytes, start: int, end: int) -> tuple[int, int]:
    """The number at `start`, and where it ends. Raises Malformed unless it ends before `end`."""
    if start < end and body[start] <= ONE_BYTE:
        return body[start], start + 1
    number = shift = 0
    for position in range(start, min(end, start + LONGEST_VARINT)):
        byte = body[position]
        number |= (byte & 0x7F) << shift
        if byte <= ONE_BYTE:
            return number, position + 1
        shift += 7
    raise Malformed("a number does not end")
