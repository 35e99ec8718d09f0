"""JSON read by parsers written in C, which are fast but do not tell where a text is wrong.

orjson reads strict JSON. Python's own parser reads the rest of the dialect, after a few tokens have
been replaced by its own; it calls us for each number if a text may hold numbers out of range.
"""

import json
import re
from collections.abc import Mapping
from math import isinf

import numpy as np
import orjson

from lambda_serving.api.codec.json_value import Container, Json
from lambda_serving.dtypes import Array

__all__ = ["container", "head", "loose", "strict"]

Lasts = Mapping[int, tuple[Json, Json]]
"""Objects that repeat a name, by id, each with the list or object that is last in its text."""

_BYTE_ORDER_MARK = re.compile(rb"\xef?\xbb?\xbf?")
_SPACES = re.compile(r"[ \t\n\r]*")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_TWO_BACKSLASHES, _QUOTE_INSIDE = b"\1\1", b"\2\2"
"""Stand-ins for two escapes: bytes that no correct JSON has."""
_HEX_DIGITS = np.full(256, 2**16, np.int32)
_HEX_DIGITS[list(b"0123456789abcdef")] = range(16)
_HEX_DIGITS[list(b"ABCDEF")] = range(10, 16)
_HIGH, _LOW = 0xD800 >> 10, 0xDC00 >> 10
"""The first six bits of halves of surrogate pairs."""
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_BIG = (b"0" * 19, b"e000", b"e+000")
"""After `_DIGITS`, every integer over 64 bits and every number over a double has one of these."""
_INTEGERS = range(-(2**63), 2**64)


def strict(text: bytes) -> Json:
    """The value of strict JSON. Raises ValueError for other text, and if a name may be repeated."""
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
        raise ValueError  # a name is repeated: the first counts, but orjson kept the last
    return value


def container(text: bytes) -> tuple[Container, Lasts]:
    """The list or object in a text. Raises ValueError as `loose` does."""
    try:
        value = strict(text)
    except ValueError:
        return loose(text)
    if isinstance(value, list | dict):
        return value, {}
    raise ValueError


def loose(text: bytes) -> tuple[Container, Lasts]:
    """The list or object that a text of the dialect begins with.

    Raises ValueError for any other text, and for nesting beyond Python's recursion limit.
    """
    text = text[head(text) :]
    if b"Inf" in text or b"-NaN" in text or _HALF.search(text):
        text = _in_words_of_python(text)
    string = text.decode("utf-8", "surrogateescape")
    numbers = text.translate(_DIGITS)
    may_be_big = any(each in numbers for each in _BIG)
    lasts: dict[int, tuple[Json, Json]] = {}

    def members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        """An object in which the first of several members with one name counts."""
        members = dict(pairs)
        if len(members) < len(pairs):
            members.update(reversed(pairs))
            if isinstance(last := pairs[-1][1], list | dict):
                lasts[id(members)] = members, last
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
    """The length of a byte order mark, or of bytes that rapidjson takes for one."""
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


def _in_words_of_python(text: bytes) -> bytes:
    """The text with `Infinity` for `Inf`, `NaN` for `-NaN`, and without halves of surrogate pairs.

    May raise ValueError if the text is wrong.
    """
    if b"\1" in text or b"\2" in text:
        raise ValueError
    text = text.replace(rb"\\", _TWO_BACKSLASHES).replace(rb"\"", _QUOTE_INSIDE)
    if _HALF.search(text):
        text = _without_halves(text)
    parts = text.split(b'"')  # every other one is a string
    outside = b"\0".join(parts[::2]).replace(b"Infinity", b"Inf").replace(b"Inf", b"Infinity")
    parts[::2] = outside.replace(b"-NaN", b" NaN").split(b"\0")
    return b'"'.join(parts).replace(_TWO_BACKSLASHES, rb"\\").replace(_QUOTE_INSIDE, rb"\"")


def _without_halves(text: bytes) -> bytes:
    """The text with each lone second half of a surrogate pair as bytes instead of an escape.

    This is how rapidjson reads it. Raises ValueError for a first half that is alone.
    """
    codes: Array = np.frombuffer(text, np.uint8)
    at = np.flatnonzero(codes[:-5] == ord("\\"))
    at = at[codes[at + 1] == ord("u")]
    numbers = sum(_HEX_DIGITS[codes[at + 2 + place]] << 4 * (3 - place) for place in range(4))
    high, low = at[numbers >> 10 == _HIGH], numbers >> 10 == _LOW
    if not np.isin(high + 6, at[low]).all():
        raise ValueError
    alone = low & ~np.isin(at - 6, high)
    at, numbers = at[alone], numbers[alone]
    codes, stay = codes.copy(), np.ones(len(codes), bool)
    codes[at], codes[at + 1], codes[at + 2] = (
        0xED,
        0x80 | numbers >> 6 & 0x3F,
        0x80 | numbers & 0x3F,
    )
    for place in range(3, 6):
        stay[at + place] = False
    return codes[stay].tobytes()
