"""JSON of requests, as TensorFlow Serving reads it (`json_dialect`), and quickly where it can be.

`json_quick` reads it at once, `json_pieces` what is large, with equal values.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lambda_serving.codec import json_pieces, json_quick
from lambda_serving.codec.json_dialect import Json

__all__ = ["Json", "Limits", "parse"]

_STRICT_NESTING = 1024
"""orjson refuses what is nested deeper, and knows no lower limit."""
_WEIGHTS = {b"[": 72, b"{": 240, b'"': 30, b",": 40}
"""What a list, an object, each end of a string and an element or member add."""
_LARGE = 2**18
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
    """Is told how many bytes the objects take that a large text becomes, and may raise."""


def parse(text: bytes, limits: Limits) -> Json:
    """The first JSON value in `text`. Raises InvalidArgument, as `json_dialect.parse` does."""
    if len(text) > _LARGE:
        limits.hold(_weight(text))
        return json_pieces.parse(text, limits.nesting)
    try:
        value = json_quick.strict(text)
    except ValueError:
        return json_quick.parse(text, limits.nesting)
    if limits.nesting < _STRICT_NESTING:
        json_quick.check_nesting(text, limits.nesting)
    return value


def _weight(text: bytes) -> int:
    """The bytes of Python's objects, about: `[1],` becomes twenty times as many as it is."""
    return len(text) + sum(text.count(mark) * size for mark, size in _WEIGHTS.items())
