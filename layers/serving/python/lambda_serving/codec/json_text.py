"""JSON of requests, as TensorFlow Serving reads it (`json_dialect`), and quickly where it can be.

orjson reads strict JSON quickest, `json_quick` the rest of the dialect, with equal values.
"""

import re
from dataclasses import dataclass

import orjson

from lambda_serving.codec import json_quick
from lambda_serving.codec.json_dialect import Json

__all__ = ["Json", "Limits", "parse"]

_STRICT_NESTING = 1024
"""orjson refuses what is nested deeper, and knows no lower limit."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep a request from exhausting memory or time.

    `nesting` is how many lists and objects may stand inside one another. TensorFlow Serving has
    no such bound; its own tests nest two thousand.
    """

    nesting: int = 10_000
    examples: int = 256 * 2**20
    """Bytes that the examples of a request may take together, each with the context."""


def parse(text: bytes, limits: Limits) -> Json:
    """The first JSON value in `text`. Raises InvalidArgument, as `json_dialect.parse` does."""
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = json_quick.parse(text, limits.nesting)
    else:
        if limits.nesting < _STRICT_NESTING:
            json_quick.check_nesting(text, limits.nesting)
        if _repeats_a_name(value, text):  # the first has to count
            value = json_quick.parse(text, limits.nesting)
    return value


def _repeats_a_name(value: Json, text: bytes) -> bool:
    colons = text.count(b":")
    if isinstance(value, dict) and len(value) == colons:
        return False
    members = _members(value)
    return members != colons and members != _STRING.sub(b"", text).count(b":")


def _members(value: Json) -> int:
    """How many members the objects in a value have."""
    count = 0
    containers = [value]
    while containers:
        container = containers.pop()
        if isinstance(container, dict):
            count += len(container)
            containers.extend(each for each in container.values() if type(each) in (dict, list))
        elif isinstance(container, list):
            containers.extend(each for each in container if type(each) in (dict, list))
    return count
