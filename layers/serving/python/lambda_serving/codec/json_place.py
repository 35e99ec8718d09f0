"""Where in a text of JSON a parser may begin anew: behind a comma, inside which containers.

By numpy, which looks at all bytes of a block at once.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lambda_serving.dtypes import Array

__all__ = ["CLOSING", "COMMA", "OPENING", "Place", "deepest", "last_comma", "marks"]

_BLOCK = 2**20
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_QUOTE = ord('"')
OPENING, CLOSING, COMMA = 1, 2, 4
_KINDS = np.zeros(256, np.uint8)
_KINDS[list(b"[{")] = OPENING
_KINDS[list(b"]}")] = CLOSING
_KINDS[ord(",")] = COMMA


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
    end = -1
    for start, _, kinds in marks(text):
        commas = np.flatnonzero(kinds == COMMA)
        if len(commas):
            end = start + int(commas[-1])
    return None if end < 0 else _place(text[:end])


def deepest(text: bytes) -> int:
    """How many brackets are open at most, anywhere in correct JSON."""
    return _place(text).deepest


def _place(text: bytes) -> Place:
    opened = bytearray()
    deepest = 0
    for _, codes, kinds in marks(text):
        places = np.flatnonzero(kinds & (OPENING | CLOSING))
        if not len(places):
            continue
        opens = kinds[places] == OPENING
        depths = np.cumsum(np.where(opens, 1, -1))
        lowest, highest = min(0, int(depths.min())), max(0, int(depths.max()))
        deepest = max(deepest, len(opened) + highest)
        del opened[len(opened) + lowest :]
        # the last bracket that opens a level stays open if the end is as deep
        last = np.zeros(highest - lowest + 1, np.int64)
        last[depths[opens] - lowest] = places[opens]
        opened += codes[last[1 : int(depths[-1]) - lowest + 1]].tobytes()
    return Place(len(text), bytes(opened), deepest)


def marks(text: bytes) -> Iterator[tuple[int, Array, Array]]:
    """Start, bytes, and kinds, 0 for none, of each block.

    `OPENING` and `CLOSING` are brackets, all outside of strings, as far as the text is correct.
    """
    plain = _ESCAPE.sub(b"__", text) if b"\\" in text else text
    inside = 0
    for start in range(0, len(plain), _BLOCK):
        codes: Array = np.frombuffer(plain, np.uint8, min(_BLOCK, len(plain) - start), start)
        quotes = np.cumsum(codes == _QUOTE, dtype=np.uint8) + np.uint8(inside)  # odd: inside
        yield start, codes, np.where(quotes & 1, np.uint8(0), _KINDS[codes])
        inside = int(quotes[-1]) & 1
