"""Long nested lists of numbers, parsed some at a time, so that others need not wait for long.

A parser in C lets no other thread run before it is done. Numbers, brackets and commas may be cut
at any comma.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import simdjson

from lambda_serving.dtypes import MOST_DIMENSIONS

__all__ = ["FlatNumbers", "blocks", "pieces", "regular_shape"]

_PIECE = 2**18
"""Bytes that are parsed at once, within some milliseconds."""
_COMMA = ord(",")
_TYPES = {"d": np.float64, "i": np.int64, "u": np.uint64}


class FlatNumbers:
    """The numbers in a text of nested lists; read like a `simdjson.Array`, and much smaller.

    Raises ValueError, RuntimeError or TypeError for any other text.
    """

    def __init__(self, text: bytes) -> None:
        parsed: Any = simdjson.Parser().parse(text)
        try:
            self._numbers = np.frombuffer(parsed.as_buffer(of_type="i"), np.int64)
        except (TypeError, ValueError):
            self._numbers = np.frombuffer(parsed.as_buffer(of_type="d"), np.float64)

    def as_buffer(self, *, of_type: str) -> bytes:
        numbers = self._numbers
        if of_type != "d" and numbers.dtype.kind == "f":
            raise TypeError
        if of_type == "u" and numbers.min(initial=0) < 0:
            raise TypeError
        return numbers.astype(_TYPES[of_type], copy=False).tobytes()


def blocks(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """A part of the body in blocks."""
    for at in range(start, end, _PIECE):
        yield body[at : min(at + _PIECE, end)]


def pieces(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """A nested list cut at commas, each piece with the brackets that are open around it."""
    depth = 0
    while start < end:
        comma = body.find(b",", start + _PIECE, end)
        until = comma if comma >= 0 else end
        piece = body[start:until]
        after = depth + piece.count(b"[") - piece.count(b"]")
        yield b"[" * depth + piece + b"]" * after
        start, depth = until + 1, after


def regular_shape(remains: bytes) -> tuple[int, ...] | None:
    """The shape of the array whose text without numbers this is, None if it is that of none.

    A list is regular if it repeats its first element, which the turn before has looked at: it
    ends where as many brackets as it has levels close at once for the first time.
    """
    rank = len(remains) - len(remains.lstrip(b"["))
    if not 0 < rank <= MOST_DIMENSIONS:
        return None
    marks = np.frombuffer(remains, np.uint8)
    sizes: list[int] = []
    element = 0  # bytes
    for level in range(1, rank + 1):
        start = rank - level
        end = remains.find(b"]" * level, start) + level if level < rank else len(remains)
        inside, period = marks[start + 1 : end - 1], element + 1
        size, rest = divmod(len(inside) + 1, period)
        commas = inside[element::period] == _COMMA
        if rest or not commas.all() or not np.array_equal(inside[period:], inside[:-period]):
            return None
        sizes.append(size)
        element = end - start
    return tuple(reversed(sizes)) if remains.endswith(b"]" * rank) else None
