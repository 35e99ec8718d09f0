"""The positions of brackets and commas in JSON, found by numpy in all bytes at once."""

import numpy as np

from lambda_serving.dtypes import Array

__all__ = ["OPENING", "deepest", "marks", "steps"]

OPENING, _CLOSING, _COMMA, _QUOTE = 1, 2, 4, 8
_KINDS = bytearray(256)
for _marks, _kind in ((b"[{", OPENING), (b"]}", _CLOSING), (b",", _COMMA), (b'"', _QUOTE)):
    for _mark in _marks:
        _KINDS[_mark] = _kind


def marks(text: bytes) -> tuple[Array, Array]:
    """The positions and the kinds (uint8) of the brackets and commas outside of strings.

    `text` begins outside of strings. If it is not correct JSON, results behind the error are wrong.
    """
    if b"\\" in text:
        text = text.replace(rb"\\", b"__").replace(rb"\"", b"__")
    codes = np.frombuffer(text.translate(_KINDS), np.uint8)
    places = np.flatnonzero(codes != 0)
    kinds = codes[places]
    if b'"' in text:
        quotes = kinds == _QUOTE
        inside = np.cumsum(quotes, dtype=np.uint8) & 1  # odd: also at the quote that opens
        outside = (inside | quotes) == 0
        places, kinds = places[outside], kinds[outside]
    return places, kinds


def steps(kinds: Array) -> Array:
    """How many brackets each mark opens: 1, 0 or -1."""
    step: Array = (kinds == OPENING).astype(np.int8)
    step -= kinds == _CLOSING
    return step


def deepest(text: bytes) -> int:
    """The most brackets that are open anywhere in correct JSON."""
    _, kinds = marks(text)
    return int(np.cumsum(steps(kinds), dtype=np.int32).max(initial=0))
