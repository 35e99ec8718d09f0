"""Reads tables of a flatbuffer that nobody has verified: each access stays inside the bytes.

Source: https://flatbuffers.dev/internals. A table begins with the distance to its vtable, which
holds the place of each field in the table. Strings, vectors and tables lie where an offset in the
field points to. All numbers are little-endian.
"""

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

__all__ = ["Malformed", "Table", "root"]

Content = bytes | mmap
_UINT16, _INT32, _UINT32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


class Malformed(Exception):
    """The bytes are no flatbuffer: an offset or a length leaves them, or text is not UTF-8."""


class Table(NamedTuple):
    """A table; fields go by their number in the schema, and every method raises Malformed."""

    content: Content
    position: int

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A number in the format `form` of `struct`, such as `<i`."""
        place = self._place(field)
        return default if place is None else _unpack(struct.Struct(form), self.content, place)

    def text(self, field: int) -> str:
        """A string, empty if it is absent."""
        try:
            return self.data(field).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"a name is not UTF-8: {error}") from None

    def data(self, field: int) -> bytes:
        """A vector of bytes, empty if it is absent."""
        start, length = self._vector(field, 1)
        return self.content[start : start + length]

    def numbers(self, field: int, form: str) -> tuple[int, ...] | None:
        """A vector of numbers in the format `form` of `struct`, such as `i`; None if absent."""
        if self._place(field) is None:
            return None
        start, length = self._vector(field, struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{length}{form}", self.content, start)

    def tables(self, field: int) -> "Tables":
        """A vector of tables, empty if it is absent."""
        return Tables(self.content, *self._vector(field, _UINT32.size))

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many there are."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = place + _unpack(_UINT32, self.content, place)
        length = _unpack(_UINT32, self.content, start)
        start += _UINT32.size
        if start + length * width > len(self.content):
            raise Malformed(f"a vector of {length} elements ends behind the file")
        return start, length

    def _place(self, field: int) -> int | None:
        """Where a field is; None if it is absent."""
        vtable = self.position - _unpack(_INT32, self.content, self.position)
        entry = 2 * _UINT16.size + field * _UINT16.size
        if entry + _UINT16.size > _unpack(_UINT16, self.content, vtable):
            return None
        offset = _unpack(_UINT16, self.content, vtable + entry)
        return self.position + offset if offset else None


class Tables:
    """A vector of tables; raises Malformed for a number that it does not have."""

    def __init__(self, content: Content, start: int, length: int) -> None:
        self._content = content
        self._start = start
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Table:
        if not 0 <= number < self._length:
            raise Malformed(f"it names number {number} of {self._length}")
        place = self._start + number * _UINT32.size
        return Table(self._content, place + _unpack(_UINT32, self._content, place))

    def __iter__(self) -> Iterator[Table]:
        return (self[number] for number in range(self._length))


def root(content: Content) -> Table:
    """The table that a flatbuffer begins with."""
    return Table(content, _unpack(_UINT32, content, 0))


def _unpack(form: struct.Struct, content: Content, place: int) -> int:
    if not 0 <= place <= len(content) - form.size:
        raise Malformed(f"an offset points to byte {place} of {len(content)}")
    number: int = form.unpack_from(content, place)[0]
    return number
