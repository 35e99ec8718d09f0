"""JSON at the speed of parsers written in C, which say that a text is wrong, not where.

orjson reads strict JSON. Python's own parser reads the rest of the dialect, after a few tokens are
put in its words; it hands out the numbers of a text that may be out of range.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from math import isinf

import orjson

from lambda_serving.codec.json_dialect import Container, Json

__all__ = ["container", "head", "loose", "strict"]

Lasts = Mapping[int, tuple[Json, Json]]
"""By its id, each object that repeats a name, with the value of its last member in the text."""

_BYTE_ORDER_MARK = re.compile(rb"\xef?\xbb?\xbf?")
_SPACES = re.compile(r"[ \t\n\r]*")
_HIGH, _LOW = "[dD][89abAB][0-9a-fA-F]{2}", "[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_HIGH = re.compile(rf"\\u{_HIGH}(?!\\u{_LOW})")
_LONE_LOW = re.compile(rf"(?<!\\u{_HIGH})\\u({_LOW})")
_TWO_BACKSLASHES, _QUOTE_INSIDE = "\udc00", "\udc01"
"""Characters that no decoded text has stand for these two escapes."""
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_BIG = (b"0" * 19, b"e000", b"e+000")
"""With `_DIGITS`, what integers over 64 bits and numbers over a double have somewhere."""
_INTEGERS = range(-(2**63), 2**64)


def strict(text: bytes) -> Json:
    """The value of strict JSON; ValueError for what is not, or may repeat a name."""
    value: Json = orjson.loads(text)
    colons = text.count(b":")
    if not colons or (isinstance(value, dict) and len(value) == colons):
        return value
    if b"\\u003" in text:  # may be a colon
        raise ValueError
    try:
        kept = orjson.dumps(value).count(b":")
    except TypeError:  # nested too deeply for that
        raise ValueError from None
    if kept != colons:
        raise ValueError  # of members with one name the first counts, not the last
    return value


def container(text: bytes) -> tuple[Container, Lasts]:
    """The list or object that a text is. Raises ValueError as `loose` does."""
    try:
        value = strict(text)
    except ValueError:
        return loose(text)
    if isinstance(value, list | dict):
        return value, {}
    raise ValueError


def loose(text: bytes) -> tuple[Container, Lasts]:
    """The list or object that a text of the dialect begins with.

    Raises ValueError for any other text, and for what is nested beyond Python's recursion.
    """
    string = text[head(text) :].decode("utf-8", "surrogateescape")
    if b"Inf" in text or b"-NaN" in text or _HALF.search(text):
        string = _in_words_of_python(string)
    numbers = text.translate(_DIGITS)
    may_be_big = any(each in numbers for each in _BIG)
    lasts: dict[int, tuple[Json, Json]] = {}

    def members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        """Of members with one name the first counts."""
        members = dict(pairs)
        if len(members) < len(pairs):
            members = dict(reversed(pairs))
            members = {name: members[name] for name, _ in pairs}
            lasts[id(members)] = members, pairs[-1][1]
        return members

    decoder = json.JSONDecoder(
        object_pairs_hook=members,
        parse_int=_integer if may_be_big else int,
        parse_float=_float if may_be_big else float,
    )
    spaces = _SPACES.match(string)
    try:
        value, _ = decoder.raw_decode(string, spaces.end() if spaces else 0)
    except RecursionError:
        raise ValueError from None
    if isinstance(value, list | dict):
        return value, lasts
    raise ValueError  # Python takes `1.` for a number and what follows it


def head(text: bytes) -> int:
    """The bytes of a byte order mark, or of what rapidjson takes for one."""
    mark = _BYTE_ORDER_MARK.match(text)
    return mark.end() if mark else 0


def _integer(digits: str) -> Json:
    if len(digits) <= 20 and (number := int(digits)) in _INTEGERS:
        return number
    return _float(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError
    return number


def _in_words_of_python(text: str) -> str:
    """The text with `Infinity` for `Inf`, `NaN` for `-NaN`, and without halves of surrogate pairs.

    As rapidjson does, let the second half of a pair stand alone; the first one is an error.
    """
    text = text.replace(r"\\", _TWO_BACKSLASHES).replace(r"\"", _QUOTE_INSIDE)
    if _LONE_HIGH.search(text):
        raise ValueError
    halves = _LONE_LOW.split(text)
    halves[1::2] = map(_bytes_of_half, halves[1::2])
    parts = "".join(halves).split('"')  # every other one is a string
    outside = "\0".join(parts[::2]).replace("Infinity", "Inf").replace("Inf", "Infinity")
    parts[::2] = outside.replace("-NaN", " NaN").split("\0")
    return '"'.join(parts).replace(_TWO_BACKSLASHES, r"\\").replace(_QUOTE_INSIDE, r"\"")


@lru_cache(1024)
def _bytes_of_half(digits: str) -> str:
    return chr(int(digits, 16)).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
