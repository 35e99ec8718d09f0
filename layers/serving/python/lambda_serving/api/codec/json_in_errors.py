"""JSON values as TensorFlow Serving's error messages show them.

Pretty-printed with four spaces and lists on one line, and cut off after the token that passes 256
bytes, so brackets may stay open.

Source: tensorflow_serving/util/json_tensor.cc (`JsonValueToString`) and rapidjson 1.1.0's
prettywriter.h and internal/dtoa.h.
"""

import re
from collections.abc import Iterator
from math import isfinite, isnan

from lambda_serving.api.codec.json_reader import Json

__all__ = ["echo", "plain", "quote", "type_name"]

_LIMIT = 256
_INDENT = b"    "
_LONGEST_PLAIN = 21
"""Numbers with more digits than this before the point are written with an exponent."""
_MOST_ZEROS = 6
"""Numbers below one are written with an exponent if this many zeros would follow the point."""
_ESCAPED = re.compile(rb'["\\\x00-\x1f]')
_SHORT_ESCAPES = {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
}


def echo(value: Json) -> str:
    """The text of a value, with U+FFFD for bytes that are not UTF-8."""
    text = bytearray()
    for token in _tokens(value, 1):
        text += token
        if len(text) > _LIMIT:
            break
    return text.decode(errors="replace")


def plain(string: str) -> str:
    """A string of a request for use in a message, with U+FFFD for bytes that are not UTF-8."""
    return _raw(string).decode(errors="replace")


def type_name(value: Json) -> str:
    """The name of rapidjson's type of a value."""
    match value:
        case None:
            return "Null"
        case bool():
            return str(value)
        case str():
            return "String"
        case list():
            return "Array"
        case dict():
            return "Object"
    return "Number"


def quote(string: bytes) -> bytes:
    """A JSON string; only quotes, backslashes and control characters are escaped."""
    return b'"%b"' % _ESCAPED.sub(_escape, string)


def _escape(match: re.Match[bytes]) -> bytes:
    character = match[0]
    return _SHORT_ESCAPES.get(character) or b"\\u%04X" % ord(character)


def _tokens(value: Json, level: int) -> Iterator[bytes]:
    """The text of a value in rapidjson's tokens, each with the layout in front of it.

    Recurses once for each level; `echo` stops before level 256.
    """
    match value:
        case list():
            yield b"["
            for index, item in enumerate(value):
                yield from _after(b", " if index else b"", item, level)
            yield b"]"
        case dict():
            yield b"{"
            for index, (name, item) in enumerate(value.items()):
                yield b"%b\n%b%b" % (b"," if index else b"", _INDENT * level, quote(_raw(name)))
                yield from _after(b": ", item, level)
            yield b"\n%b}" % (_INDENT * (level - 1)) if value else b"}"
        case str():
            yield quote(_raw(value))
        case float():
            yield _number(value).encode()
        case None:
            yield b"null"
        case _:
            yield str(value).lower().encode()


def _raw(string: str) -> bytes:
    return string.encode(errors="surrogateescape")


def _after(layout: bytes, value: Json, level: int) -> Iterator[bytes]:
    tokens = _tokens(value, level + 1)
    yield layout + next(tokens)
    yield from tokens


def _number(value: float) -> str:
    """The shortest digits that read back to the value, e.g. 100.0, 1e22, 1.5e30, 5e-324."""
    if not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign = "-" if str(value).startswith("-") else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - len(whole + fraction) + len(digits)
    digits = digits.rstrip("0") or "0"
    if value == 0:
        return f"{sign}0.0"
    if len(digits) <= point <= _LONGEST_PLAIN:
        return f"{sign}{digits:0<{point}}.0"
    if 0 < point <= _LONGEST_PLAIN:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -_MOST_ZEROS < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1}"
