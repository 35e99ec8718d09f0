"""JSON of requests, as TensorFlow Serving reads it, by the fastest parser that can.

`json_fast` reads small texts that are right, `json_pieces` all others; the values are equal.
`rapidjson_dialect` describes the dialect.
"""

from collections.abc import Callable
from typing import NamedTuple

from lambda_serving.api.codec import json_fast, json_pieces
from lambda_serving.api.codec.freeing_json import Growth
from lambda_serving.api.codec.json_positions import deepest
from lambda_serving.api.codec.json_value import Json

__all__ = ["LARGE", "Json", "Limits", "parse"]

_STRICT_NESTING = 1024
"""The nesting that parsers in C accept; they have no lower limit."""
_WEIGHTS = {b"[": 72, b"{": 240, b'"': 30, b",": 40}
"""Bytes of memory for a list, an object, each end of a string, and an element or member."""
LARGE = 2**18
"""Longer texts, in bytes, are read in pieces."""


class Limits(NamedTuple):
    """Bounds that keep a request from exhausting memory or time.

    `nesting` is how many lists and objects may be inside one another. TensorFlow Serving has no
    such bound; its own tests nest two thousand.
    """

    nesting: int = 10_000
    examples: int = 256 * 2**20
    """Most bytes of all examples of a request, each with the context."""
    hold: Callable[[int], None] = lambda _: None
    """Is called with the bytes of memory that the value of a large text takes, then with 0 before
    each piece; it may raise."""
    growth: Growth | None = None
    """Frees the value of a large text."""


def parse(text: bytes, limits: Limits) -> Json:
    """The first JSON value in `text`. Raises InvalidArgument, as `rapidjson_dialect.parse` does."""
    if len(text) > LARGE:
        limits.hold(_weight(text))
        return json_pieces.parse(text, limits.nesting, hold=limits.hold, growth=limits.growth)
    try:
        value = json_fast.strict(text)
        if limits.nesting >= _STRICT_NESTING or deepest(text) <= limits.nesting:
            return value
    except ValueError:
        pass
    if limits.nesting >= _STRICT_NESTING:
        try:
            return json_fast.loose(text.partition(b"\0")[0])[0]
        except ValueError:
            pass
    return json_pieces.parse(text, limits.nesting)


def _weight(text: bytes) -> int:
    """The approximate bytes of the Python objects: `[1],` takes twenty times its own size."""
    return len(text) + sum(text.count(mark) * size for mark, size in _WEIGHTS.items())
