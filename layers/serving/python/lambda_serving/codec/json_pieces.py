"""Large texts of JSON, read in pieces, so that other threads need not wait for long.

A parser in C lets no other thread run before it is done. So what is in a long list or object is
read a few elements at a time; where they end, a look at all brackets and commas says.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lambda_serving.codec import json_dialect, json_quick
from lambda_serving.codec.json_dialect import Json
from lambda_serving.codec.json_place import CLOSING, COMMA, OPENING, marks
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument

__all__ = ["parse"]

_PIECE = 2**17
"""Bytes that are read at once, within a millisecond or so."""
_LEVELS = 16
"""Containers inside one another that are read in pieces; what is deeper is read at once."""
_SPACES = b" \t\n\r"


class _BrokenError(Exception):
    """The text is right up to `position`, and not much further."""

    def __init__(self, position: int) -> None:
        self.position = position


def parse(text: bytes, nesting: int, piece: int = _PIECE) -> Json:
    """As `json_dialect.parse`, of no more than so many bytes at once, except for long strings."""
    content = text.partition(b"\0")[0]
    try:
        return _Text.of(content, piece, nesting).root()
    except _BrokenError as broken:
        json_quick.tell(text, content[: broken.position + 1], nesting)
    return json_dialect.parse(text, nesting)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text with the places and kinds of its brackets and commas, and how deep each is.

    That is the brackets open after it.
    """

    content: bytes
    places: Array
    kinds: Array
    depths: Array
    piece: int
    nesting: int

    @classmethod
    def of(cls, content: bytes, piece: int, nesting: int) -> "_Text":
        places, kinds = [np.zeros(0, np.int32)], [np.zeros(0, np.uint8)]
        for start, _, found in marks(content):
            there = np.flatnonzero(found)
            places.append((there + start).astype(np.int32))
            kinds.append(found[there])
        kind = np.concatenate(kinds)
        steps = (kind == OPENING).astype(np.int8) - (kind == CLOSING).astype(np.int8)
        return cls(
            content, np.concatenate(places), kind, np.cumsum(steps, dtype=np.int32), piece, nesting
        )

    def root(self) -> Json:
        start = self._skip(json_quick.head(self.content), len(self.content))
        if self.content[start : start + 1] not in {b"[", b"{"}:
            raise _BrokenError(-1)
        value, closing = self._container(start, len(self.content), 0, len(self.places), 0)
        if self.depths[:closing].max() > self.nesting:
            raise InvalidArgument(f"JSON nesting is over the limit of {self.nesting}")
        return value

    def _container(
        self, start: int, end: int, first: int, last: int, level: int
    ) -> tuple[Json, int]:
        """The list or object at `start`, and the number of the mark that closes it.

        The marks between start and end are those from `first` to `last`.
        """
        depth = self.depths[first]
        outside = np.flatnonzero(self.depths[first:last] < depth)
        if not len(outside):
            self._elements(start, end, first, last, level)  # raises what comes first
            raise _BrokenError(end)
        closing = first + int(outside[0])
        value = self._elements(start, int(self.places[closing]), first, closing, level)
        if self.content[self.places[closing]] != (
            ord("]") if isinstance(value, list) else ord("}")
        ):
            raise _BrokenError(int(self.places[closing]))
        return value, closing

    def _elements(self, start: int, end: int, first: int, last: int, level: int) -> Json:
        is_list = self.content[start] == ord("[")
        listed: list[Json] = []
        members: dict[str, Json] = {}
        for begin, until, lone in self._runs(start, end, first, last):
            if not self.content[begin:until].strip(_SPACES):
                if (begin, until) != (start + 1, end):
                    raise _BrokenError(begin - 1)
            elif is_list:
                listed += self._listed(begin, until, level, lone=lone)
            else:
                for name, value in self._members(begin, until, level, lone=lone).items():
                    members.setdefault(name, value)
        return listed if is_list else members

    def _runs(self, start: int, end: int, first: int, last: int) -> Iterator[tuple[int, int, bool]]:
        """Where elements begin and end that make a piece together, or one that is larger."""
        inner = slice(first + 1, last)
        at = (self.kinds[inner] == COMMA) & (self.depths[inner] == self.depths[first])
        edges = np.concatenate([[start], self.places[inner][at], [end]])
        number = 0
        while number < len(edges) - 1:
            most = int(np.searchsorted(edges, edges[number] + self.piece, "right")) - 1
            until = max(most, number + 1)
            yield int(edges[number]) + 1, int(edges[until]), most <= number
            number = until

    def _listed(self, begin: int, until: int, level: int, *, lone: bool) -> list[Json]:
        if lone and (inner := self._inner(begin, until, level)):
            return [inner[0]]
        value = self._small(begin, until, b"[%b]")
        assert isinstance(value, list)
        return value

    def _members(self, begin: int, until: int, level: int, *, lone: bool) -> dict[str, Json]:
        colon = json_quick.name_end(self.content, begin) if lone else None
        if colon and (inner := self._inner(colon, until, level)):
            named = self._small(begin, colon, b"{%b0}")
            assert isinstance(named, dict)
            return dict.fromkeys(named, inner[0])
        value = self._small(begin, until, b"{%b}")
        assert isinstance(value, dict)
        return value

    def _inner(self, begin: int, until: int, level: int) -> tuple[Json] | None:
        """The container that is all of a large element, None for what is to be read at once."""
        start = self._skip(begin, until)
        if level >= _LEVELS or self.content[start : start + 1] not in {b"[", b"{"}:
            return None
        first, last = np.searchsorted(self.places, [start, until])
        value, closing = self._container(start, until, int(first), int(last), level + 1)
        after = int(self.places[closing]) + 1
        if self._skip(after, until) < until:
            raise _BrokenError(int(self.places[closing]))
        return (value,)

    def _small(self, begin: int, until: int, brackets: bytes) -> Json:
        try:
            return json_quick.read(brackets % self.content[begin:until], self.nesting)
        except InvalidArgument:
            raise _BrokenError(begin - 1) from None

    def _skip(self, position: int, end: int) -> int:
        """Where the next byte is that is no space, `end` if there is none."""
        step = 64
        while position < end:
            piece = self.content[position : min(position + step, end)]
            if left := piece.lstrip(_SPACES):
                return position + len(piece) - len(left)
            position, step = position + len(piece), step * 2
        return end
