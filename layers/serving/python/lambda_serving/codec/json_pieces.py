"""JSON read in pieces: other threads need not wait for long, and an error is found in its piece.

A piece ends before a comma or a closing bracket, or behind an opening one, at any depth. With the
brackets that are open around it, it is a text of its own, which a parser in C reads; what it holds
then goes where the pieces before have left off. A piece that is refused is read in smaller ones,
and only the smallest is left to the parser that tells what is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex

import numpy as np

from lambda_serving.codec import json_dialect, json_quick
from lambda_serving.codec.json_dialect import Container, Json
from lambda_serving.codec.json_place import OPENING, marks, steps
from lambda_serving.errors import InvalidArgument

__all__ = ["parse"]

_SIZES = (2**17, 2**13, 700)
"""Bytes of a piece, and of what it is read in when it is refused. The first are read within a
millisecond or so, the last are not nested beyond the recursion of a parser in C."""
_SPACES = b" \t\n\r"
_BEFORE = token_hex(8)
"""The name that stands for what an object had before the piece. No client can know it."""
_CLOSING = {ord("["): b"]", ord("{"): b"}"}


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a text from where the last one ended.

    It closes so many of the containers that were open, and leaves those brackets open. It is not
    `complete` where the text ends inside of containers, and too deep where its last one is.
    """

    content: bytes
    closed: int
    opened: bytes
    complete: bool = True
    too_deep: bool = False


def parse(text: bytes, nesting: int, sizes: Sequence[int] = _SIZES) -> Json:
    """As `json_dialect.parse`, of no more than so many bytes at once, except for long strings."""
    content = text.partition(b"\0")[0]
    position = _skip(content, json_quick.head(content))
    root: list[Json] = []
    around: list[Container] = [root]
    refused: list[int] = []  # where those end that are read in smaller pieces
    while content[position : position + 1] in {b"[", b"{"} or len(around) > 1:
        piece = _cut(content, position, sizes[len(refused)], len(around) - 1, nesting)
        try:
            _join(around, piece)
        except ValueError:
            refused.append(position + len(piece.content))
            if len(refused) < len(sizes):
                continue
            json_dialect.resume(text, position, around, nesting)
            break
        if piece.too_deep:
            raise InvalidArgument(f"JSON nesting is over the limit of {nesting}")
        if len(around) == 1:
            return root[0]
        position += len(piece.content)
        while refused and position >= refused[-1]:
            refused.pop()
    return json_dialect.parse(text, nesting)


def _skip(content: bytes, position: int) -> int:
    """Where the next byte is that is no space."""
    step = 64
    while piece := content[position : position + step]:
        if left := piece.lstrip(_SPACES):
            return position + len(piece) - len(left)
        position, step = position + len(piece), step * 2
    return position


def _cut(content: bytes, start: int, size: int, depth: int, nesting: int) -> _Piece:
    """The piece at `start`, inside of `depth` containers."""
    while True:
        window = content[start : start + size]
        places, kinds = marks(window)
        depths = depth + np.cumsum(steps(kinds), dtype=np.int32)
        ends = np.flatnonzero((depths == 0) | (depths > nesting))
        count, end, complete = len(places), len(window), True
        if len(ends):
            count = int(ends[0]) + 1
            end = int(places[count - 1]) + 1
        elif start + len(window) == len(content) and count <= 1:
            complete = False
        elif count and kinds[-1] == OPENING:
            end = int(places[-1]) + 1
        elif count > 1:
            count -= 1
            end = int(places[-1])
        else:
            size *= 2
            continue
        depths = depths[:count]
        lowest = min(depth, int(depths.min(initial=depth)))
        highest = int(depths.max(initial=depth))
        last = np.zeros(highest - lowest + 1, np.int64)
        opens = kinds[:count] == OPENING
        # the last bracket that opens a level stays open if the end is as deep
        last[depths[opens] - lowest] = places[:count][opens]
        now = int(depths[-1]) if count else depth
        opened = bytes(window[place] for place in last[1 : now - lowest + 1])
        return _Piece(window[:end], depth - lowest, opened, complete, highest > nesting)


def _join(around: list[Container], piece: _Piece) -> None:
    """Adds what is in a piece to the containers around it, and makes `around` those at its end.

    Raises ValueError if the piece is wrong.
    """
    outer = around[len(around) - 1 - piece.closed :]
    value, lasts = _read(outer, piece)
    inner: Json = value
    for index, target in enumerate(outer):
        has_before = bool(target) or index < piece.closed
        if isinstance(target, list):
            assert isinstance(inner, list)
            target += inner[1:] if has_before else inner
            inner = inner[0] if inner else None
        else:
            assert isinstance(inner, dict)
            before = inner.pop(_BEFORE) if has_before else None
            for name, each in inner.items():
                target.setdefault(name, each)
            inner = before
    del around[len(around) - piece.closed :]
    inner = value
    for _ in piece.opened:
        inner = _last(inner, lasts)
        assert isinstance(inner, list | dict)
        around.append(inner)


def _read(outer: Sequence[Container], piece: _Piece) -> tuple[Json, json_quick.Lasts]:
    """What is in a piece, inside of containers as those around it, each behind what it had."""
    if not piece.complete:
        raise ValueError
    named = b'{"%b":' % _BEFORE.encode()
    *closed, innermost = outer
    text = b"".join(
        [
            *(b"[" if isinstance(each, list) else named for each in closed),
            b"[" if isinstance(innermost, list) else named if innermost else b"{",
            b"0" if innermost else b"",
            piece.content,
            *(_CLOSING[bracket] for bracket in reversed(piece.opened)),
            b"]" if isinstance(outer[0], list) else b"}",
        ]
    )
    try:
        return json_quick.strict(text), {}
    except ValueError:
        return json_quick.loose(text)


def _last(container: Json, lasts: json_quick.Lasts) -> Json:
    """The last element or member in the text."""
    if id(container) in lasts:
        return lasts[id(container)][1]
    if isinstance(container, list):
        return container[-1]
    assert isinstance(container, dict)
    return next(reversed(container.values()))
