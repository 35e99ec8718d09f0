"""Where in a text of JSON a parser may begin anew: behind a comma, inside which containers.

By numpy, which looks at all bytes of a block at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lambda_serving.dtypes import Array

__all__ = ["Place", "deepest", "last_comma"]

_BLOCK = 2**20
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_QUOTE = ord('"')
_OPENING, _CLOSING, _COMMA = 1, 2, 4
_KINDS = np.zeros(256, np.uint8)
_KINDS[list(b"[{")] = _OPENING
_KINDS[list(b"]}")] = _CLOSING
_KINDS[ord(",")] = _COMMA


@dataclass(frozen=True, slots=True)
class Place:
    """The `position` of a comma, the brackets that are open there, and the most that ever were."""

    position: int
    opened: bytes
    deepest: int


def last_comma(text: bytes) -> Place | None:
    """The last comma outside of strings, None if there is none.

    `text` is the beginning of correct JSON, which may end anywhere.
    """
    plain = _without_escapes(text)
    end = -1
    for start, _, marks in _marks(plain):
        commas = np.flatnonzero(marks == _COMMA)
        if len(commas):
            end = start + int(commas[-1])
    return None if end < 0 else _place(plain[:end])


def deepest(text: bytes) -> int:
    """How many brackets are open at most, anywhere in correct JSON."""
    return _place(_without_escapes(text)).deepest


def _without_escapes(text: bytes) -> bytes:
    return _ESCAPE.sub(b"__", text) if b"\\" in text else text


def _place(plain: bytes) -> Place:
    opened = bytearray()
    deepest = 0
    for _, codes, marks in _marks(plain):
        places = np.flatnonzero(marks & (_OPENING | _CLOSING))
        if not len(places):
            continue
        opens = marks[places] == _OPENING
        depths = np.cumsum(np.where(opens, 1, -1))
        lowest, highest = min(0, int(depths.min())), max(0, int(depths.max()))
        deepest = max(deepest, len(opened) + highest)
        del opened[len(opened) + lowest :]
        # the last bracket that opens a level stays open if the end is as deep
        last = np.zeros(highest - lowest + 1, np.int64)
        last[depths[opens] - lowest] = places[opens]
        opened += codes[last[1 : int(depths[-1]) - lowest + 1]].tobytes()
    return Place(len(plain), bytes(opened), deepest)


def _marks(plain: bytes) -> Iterator[tuple[int, Array, Array]]:
    """Start, bytes, and the kinds of those bytes that are outside of strings, of each block."""
    inside = 0
    for start in range(0, len(plain), _BLOCK):
        codes: Array = np.frombuffer(plain, np.uint8, min(_BLOCK, len(plain) - start), start)
        quotes = np.cumsum(codes == _QUOTE, dtype=np.uint8) + np.uint8(inside)  # odd: inside
        yield start, codes, np.where(quotes & 1, np.uint8(0), _KINDS[codes])
        inside = int(quotes[-1]) & 1
