"""JSON of requests, as TensorFlow Serving reads it (`json_dialect`), and quickly where it can be.

`json_quick` reads what is small and right, `json_pieces` all else, with equal values.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lambda_serving.api.codec import json_fast, json_pieces
from lambda_serving.api.codec.json_positions import deepest
from lambda_serving.api.codec.rapidjson_dialect import Json

__all__ = ["LARGE", "Json", "Limits", "parse"]

_STRICT_NESTING = 1024
"""The parsers in C refuse what is nested deeper, and know no lower limit."""
_WEIGHTS = {b"[": 72, b"{": 240, b'"': 30, b",": 40}
"""What a list, an object, each end of a string and an element or member add."""
LARGE = 2**18
"""Bytes of a text that is read in pieces."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep a request from exhausting memory or time.

    `nesting` is how many lists and objects may stand inside one another. TensorFlow Serving has
    no such bound; its own tests nest two thousand.
    """

    nesting: int = 10_000
    examples: int = 256 * 2**20
    """Bytes that the examples of a request may take together, each with the context."""
    hold: Callable[[int], None] = lambda _: None
    """Is told how many bytes the objects take that a large text becomes, and of none for each piece
    that is read; it may raise."""


def parse(text: bytes, limits: Limits) -> Json:
    """The first JSON value in `text`. Raises InvalidArgument, as `json_dialect.parse` does."""
    if len(text) > LARGE:
        limits.hold(_weight(text))
        return json_pieces.parse(text, limits.nesting, hold=limits.hold)
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
    """The bytes of Python's objects, about: `[1],` becomes twenty times as many as it is."""
    return len(text) + sum(text.count(mark) * size for mark, size in _WEIGHTS.items())
