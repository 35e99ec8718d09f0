"""JSON read in pieces: other threads need not wait for long, and an error is found in its piece.

A piece ends before a comma or a closing bracket, or behind an opening one, at any depth. Within the
brackets that are open around it, it is a text of its own, which a parser in C reads. Its content is
then added to the containers that earlier pieces left open. A piece that the parser rejects is read
in smaller pieces; only the smallest, or a long string or number, is left to the slow parser, which
tells what is wrong.
"""

from collections.abc import Callable, Sequence
from os import urandom
from typing import NamedTuple

import numpy as np

from lambda_serving.api.codec import json_fast
from lambda_serving.api.codec.freeing_json import Growth
from lambda_serving.api.codec.json_positions import OPENING, marks, steps
from lambda_serving.api.codec.json_value import Container, Json
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument

__all__ = ["parse"]

_SIZES = (2**17, 2**13, 700)
"""Bytes of a piece, and of the smaller pieces after a rejection. The first are read within about a
millisecond; the last cannot be nested beyond the recursion of a parser in C."""
_SPACES = b" \t\n\r"
_BEFORE = "".join(chr(ord("a") + byte % 26) for byte in urandom(20))
"""The name of a member that stands for all before the piece. No client can know it."""
_NAMED = b'{"%b":' % _BEFORE.encode()
_CLOSE = bytes.maketrans(b"[{", b"]}")


class _Open:
    """The open containers, beginning with a list around the root, and their brackets."""

    def __init__(self, growth: Growth) -> None:
        self.root: list[Json] = []
        self.growth = growth
        self.containers: list[Json] = [self.root]
        self.brackets = bytearray(b"[")


class _Piece(NamedTuple):
    """A piece of a text, from the end of the piece before it.

    It closes `closed` of the containers that were open, and leaves the brackets `opened` open. It
    is not `complete` if the text ends inside of containers, and too deep if its last container is.
    """

    content: bytes
    closed: int
    opened: bytes
    complete: bool
    too_deep: bool


def parse(
    text: bytes,
    nesting: int,
    sizes: Sequence[int] = _SIZES,
    hold: Callable[[int], None] = lambda _: None,
    growth: Growth | None = None,
) -> Json:
    """As `rapidjson_dialect.parse`, but reads at most `sizes[0]` bytes at once, long strings aside.

    `hold` is called with 0 before each piece, and may raise. `growth` frees the value, also the
    part of it that was read before an error.
    """
    is_open = _Open(growth or Growth())
    content = text.partition(b"\0")[0]
    position = _skip(content, json_fast.head(content))
    refused: list[int] = []  # the ends of pieces that are being read in smaller ones
    while content[position : position + 1] in {b"[", b"{"} or len(is_open.brackets) > 1:
        hold(0)
        depth, size = len(is_open.brackets) - 1, sizes[len(refused)]
        piece = _cut(content, position, size, depth, nesting)
        try:
            _join(is_open, piece)
        except ValueError:
            refused.append(position + len(piece.content))
            if len(refused) < len(sizes) and len(piece.content) <= size:
                continue
            from lambda_serving.api.codec import rapidjson_dialect  # few starts need its patterns

            rapidjson_dialect.resume(text, position, is_open.containers, nesting)
            break
        if piece.too_deep:
            raise InvalidArgument(f"JSON nesting is over the limit of {nesting}")
        if len(is_open.brackets) == 1:
            return is_open.root[0]
        position += len(piece.content)
        while refused and position >= refused[-1]:
            refused.pop()
    from lambda_serving.api.codec import rapidjson_dialect  # as above

    return rapidjson_dialect.parse(text, nesting)


def _skip(content: bytes, position: int) -> int:
    """The position of the next byte that is not white space."""
    step = 64
    while piece := content[position : position + step]:
        if left := piece.lstrip(_SPACES):
            return position + len(piece) - len(left)
        position, step = position + len(piece), step * 2
    return position


def _cut(content: bytes, start: int, size: int, depth: int, nesting: int) -> _Piece:
    """The piece at `start`, which is inside of `depth` containers.

    It is longer than `size` only if it has a longer string, number or space, and then ends there.
    """
    most: int | None = None
    while True:
        window = content[start : start + size]
        places, kinds = (each[:most] for each in marks(window))
        depths = depth + np.cumsum(steps(kinds), dtype=np.int32)
        ends = np.flatnonzero((depths == 0) | (depths > nesting))
        count, end, complete = len(places), len(window), True
        if len(ends):
            count = int(ends[0]) + 1
            end = int(places[count - 1]) + 1
        elif start + end == len(content) and count <= 1:
            complete = False
        elif count and kinds[-1] == OPENING:
            end = int(places[-1]) + 1
        elif count > 1:
            count -= 1
            end = int(places[-1])
        else:
            size, most = 2 * size, 2
            continue
        opened, closed, deepest = _brackets(window, depth, places, depths[:count], kinds)
        return _Piece(window[:end], closed, opened, complete, deepest > nesting)


def _brackets(
    window: bytes, depth: int, places: Array, depths: Array, kinds: Array
) -> tuple[bytes, int, int]:
    """The brackets that stay open, how many of those around are closed, and the deepest level."""
    if not len(depths):
        return b"", 0, depth
    lowest, deepest = min(depth, int(depths.min())), max(depth, int(depths.max()))
    opens = np.flatnonzero(kinds[: len(depths)] == OPENING)
    # the last bracket that opens a level stays open if the end is at least as deep
    last = np.zeros(deepest - lowest + 1, np.int64)
    last[depths[opens] - lowest] = places[opens]
    stay = last[1 : int(depths[-1]) - lowest + 1]
    return np.frombuffer(window, np.uint8)[stay].tobytes(), depth - lowest, deepest


def _join(is_open: _Open, piece: _Piece) -> None:
    """Adds the content of a piece to the open containers, and the containers that it leaves open.

    Raises ValueError if the piece is wrong.
    """
    containers, brackets = is_open.containers, is_open.brackets
    innermost = len(containers) - 1
    first = innermost - piece.closed
    value, lasts = _read(piece, bytes(brackets[first:]), is_empty=not containers[-1])
    inner: Json = value
    closed_first = len(piece.content) - len(piece.content.lstrip(b"]}"))  # with nothing behind it
    for index in range(first, innermost + 1 - closed_first):
        has_before = index < innermost or bool(containers[-1])
        inner = _add(is_open.growth, containers[index], inner, has_before=has_before)
    del containers[first + 1 :], brackets[first + 1 :]
    inner = value
    for _ in piece.opened:
        inner = inner[-1] if type(inner) is list else _last(inner, lasts)
        containers.append(inner)
    brackets += piece.opened


def _read(piece: _Piece, around: bytes, *, is_empty: bool) -> tuple[Container, json_fast.Lasts]:
    """The content of a piece within the brackets around it.

    In each container that is not empty, a first element or member stands for all before the piece.
    """
    if not piece.complete:
        raise ValueError
    outer, innermost = around[:-1].replace(b"{", _NAMED), around[-1:]
    if not is_empty:
        innermost = innermost.replace(b"{", _NAMED) + b"0"
    closing = (around[:1] + piece.opened)[::-1].translate(_CLOSE)
    return json_fast.container(outer + innermost + piece.content + closing)


def _add(growth: Growth, target: Json, inner: Json, *, has_before: bool) -> Json:
    """Adds elements or members, but returns a first one that stands for all before."""
    before = None
    if isinstance(target, list) and isinstance(inner, list):
        if has_before:
            before = inner[0]
        if len(inner) > has_before:
            growth.add(target)
            target += inner[has_before:]
    elif isinstance(target, dict) and isinstance(inner, dict):
        if has_before:
            before = inner.pop(_BEFORE)
        growth.add(target)
        for name, each in inner.items():
            target.setdefault(name, each)
    return before


def _last(members: Json, lasts: json_fast.Lasts) -> Json:
    """The value of the last member in the text."""
    if id(members) in lasts:
        return lasts[id(members)][1]
    assert isinstance(members, dict)
    return next(reversed(members.values()))
