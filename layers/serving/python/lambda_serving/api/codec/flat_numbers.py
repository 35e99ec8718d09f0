"""Long nested lists of numbers, parsed in pieces so that other threads need not wait for long.

A parser in C lets no other thread run until it is done. Lists of numbers may be cut at any comma.
"""

from contextlib import suppress
from typing import Any

import numpy as np
import simdjson

from lambda_serving.dtypes import MOST_DIMENSIONS, Array

__all__ = ["FlatNumbers", "places", "regular_shape", "without_numbers"]

_PIECE = 2**18
"""Bytes parsed at once, within some milliseconds."""
_LEAST = 2**8
"""With fewer bytes between two quotation marks, on average, pieces gain nothing."""
_LONGEST_END = 64
"""Most bytes between the last list and the bracket that closes a list of objects."""
_COMMA = ord(",")
_SPACES = b" \t\r\n"
_NUMBER_TEXT = b"0123456789+-.eE" + _SPACES
_TYPES = {"d": np.float64, "i": np.int64, "u": np.uint64}


class FlatNumbers:
    """The numbers of nested lists in a part of a body; read like a `simdjson.Array`.

    `text` is the part without its numbers. Raises ValueError, RuntimeError or TypeError for a part
    that is anything else.
    """

    def __init__(self, body: bytes, start: int, end: int, parser: simdjson.Parser) -> None:
        self._pieces, texts, depth = [], [], 0
        while start < end:
            comma = body.find(b",", start + _PIECE, end)
            until = comma if comma >= 0 else end
            piece = body[start:until]
            text = without_numbers(piece)
            after = depth + text.count(b"[") - text.count(b"]")
            self._pieces.append(_numbers(parser, b"[" * depth + piece + b"]" * after))
            texts.append(text)
            start, depth = until + 1, after
        self.text = b",".join(texts)

    def as_buffer(self, *, of_type: str) -> bytes:
        return b"".join([_as_type(piece, of_type) for piece in self._pieces])


def _numbers(parser: simdjson.Parser, text: bytes) -> Array:
    parsed: Any = parser.parse(text)
    if b"." not in text:
        with suppress(TypeError, ValueError):  # 1e3 or 2**64
            return np.frombuffer(parsed.as_buffer(of_type="i"), np.int64)
    return np.frombuffer(parsed.as_buffer(of_type="d"), np.float64)


def _as_type(numbers: Array, of_type: str) -> bytes:
    if of_type != "d" and numbers.dtype.kind == "f":
        raise TypeError
    if of_type == "u" and numbers.min(initial=0) < 0:
        raise TypeError
    return numbers.astype(_TYPES[of_type], copy=False).tobytes()


def places(body: bytes) -> list[tuple[int, int]]:
    """The start and end of each list of lists and numbers in an object of such lists.

    Such a list is between two names. Empty if the body has many names for its size, or anything
    else in it.
    """
    if body.count(b'"') * _LEAST > len(body) or b"\\" in body:
        return []
    found = []
    start = body.find(b'"')
    while start >= 0:
        after = body.find(b'"', start + 1) + 1
        start = body.find(b'"', after) if after else -1
        if place := _place(body, after, start if start >= 0 else len(body)):
            found.append(place)
    return found


def _place(body: bytes, start: int, end: int) -> tuple[int, int] | None:
    """The list between two names, without a bracket that closes a list of objects."""
    start, last = body.find(b"[", start, end), body.rfind(b"]", start, end)
    if not 0 <= start < last:
        return None
    if body[max(start, last - _LONGEST_END) : last].rstrip(_SPACES).endswith(b"}"):
        last = body.rfind(b"]", start, last)
    return start, last + 1


def without_numbers(text: bytes) -> bytes:
    """The text without numbers and white space."""
    return text.translate(None, _NUMBER_TEXT)


def regular_shape(remains: bytes) -> tuple[int, ...] | None:
    """The shape of the array whose text without numbers this is; None if no array has this text.

    `[[,,],[,,]]` has the shape (2, 3). From the innermost lists outwards: a list is regular if it
    repeats its first element, which the turn before has checked. A list of n levels ends at the
    first n closing brackets in a row: `[[,,],[,,]]` at its `]]`.
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
