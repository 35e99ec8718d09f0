"""The dialect at the speed of Python's own parser, which is written in C.

That one reads all of the dialect but a few tokens, which are written in its way before, and
numbers out of range, which it hands out. Where it stops, `json_dialect` tells why: it begins anew
at the comma before, not at the start of the text.
"""

import json
import re
from collections.abc import Sequence
from math import isinf

import orjson

from lambda_serving.codec import json_dialect
from lambda_serving.codec.json_dialect import Json
from lambda_serving.codec.json_place import deepest, last_comma
from lambda_serving.errors import InvalidArgument

__all__ = ["check_nesting", "parse"]

_BYTE_ORDER_MARK = re.compile(rb"\xef?\xbb?\xbf?")
_SPACES = re.compile(r"[ \t\n\r]*")
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_STRING_BYTES = re.compile(_STRING.encode(), re.DOTALL)
_NAME = re.compile(rf"[ \t\n\r]*{_STRING}[ \t\n\r]*:".encode(), re.DOTALL)
_STRANGE = re.compile(rb"Inf(?!inity)|-NaN|\\u[dD][89a-fA-F]")
"""What Python does not know: two tokens, and half a pair of surrogates, if it is one."""
_STRANGE_TOKEN = re.compile(rf"{_STRING}|Inf(?!inity)|-NaN", re.DOTALL)
_HIGH, _LOW = "[dD][89abAB][0-9a-fA-F]{2}", "[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"\\(?:u{_HIGH}\\u{_LOW}|u({_HIGH}|{_LOW})|.)", re.DOTALL)
_LONG_INTEGER = re.compile(rb"[0-9]{19}")
_BIG = re.compile(rb"[eE]\+?[0-9]{3}")
_FRACTION = r"(?:\.[0-9]+)?"
_STRING_OR_BIG = re.compile(
    rf"{_STRING}|(?<![0-9.])-?(?:[0-9]+{_FRACTION}[eE]\+?[0-9]{{3,}}"
    rf"|[0-9]{{300,}}{_FRACTION}(?:[eE][+-]?[0-9]+)?)",
    re.DOTALL,
)
_RECURSION = 1024
"""No text that is nested as deeply reaches its end here: it would recurse too often."""
_INTEGERS = range(-(2**63), 2**64)
_Edit = tuple[int, int, int]
"""Where in a text a token was rewritten, and its lengths before and after."""


class _TooBigError(Exception):
    """A number is out of the range of a double."""


class _StoppedError(Exception):
    """Python reads no further than to `position`, or to a token that begins there."""

    def __init__(self, position: int) -> None:
        self.position = position


def parse(text: bytes, nesting: int) -> Json:
    """As `json_dialect.parse`, and many times quicker where the text is long."""
    content = text.partition(b"\0")[0]
    try:
        return _read(content, nesting)
    except RecursionError:
        return json_dialect.parse(text, nesting)
    except _StoppedError as stopped:
        tell(text, content[: stopped.position], nesting)
    return json_dialect.parse(text, nesting)


def strict(text: bytes) -> Json:
    """The value of strict JSON, quicker still; ValueError for what is not, or repeats a name."""
    value: Json = orjson.loads(text)
    colons = text.count(b":")
    if isinstance(value, dict) and len(value) == colons:
        return value
    members = _count_members(value)
    if members != colons and members != _STRING_BYTES.sub(b"", text).count(b":"):
        raise ValueError  # of members with one name the first counts, not the last
    return value


def read(piece: bytes, nesting: int) -> Json:
    """The value that a piece of a text is. Raises InvalidArgument, and does not say why.

    Only what is nested beyond Python's recursion is refused for its nesting.
    """
    try:
        return strict(piece)
    except ValueError:
        pass
    try:
        return _read(piece, _RECURSION)
    except RecursionError:
        return json_dialect.parse(piece, nesting)
    except _StoppedError as stopped:
        raise InvalidArgument(f"JSON Parse error after {stopped.position} bytes") from None


def name_end(text: bytes, start: int) -> int | None:
    """Where the name of a member ends, and its colon; None where there is no name."""
    match = _NAME.match(text, start)
    return match.end() if match else None


def head(text: bytes) -> int:
    """The bytes of a byte order mark, or of what rapidjson takes for one."""
    mark = _BYTE_ORDER_MARK.match(text)
    return mark.end() if mark else 0


def tell(text: bytes, right: bytes, nesting: int) -> None:
    """Raises the first error of a text whose beginning is right up to there, or a token more.

    It raises nothing if there is none soon after the last comma.
    """
    if place := last_comma(right):
        if place.deepest > nesting:
            raise _too_deep(nesting)
        json_dialect.resume(text, place.position, place.opened, nesting)


def check_nesting(text: bytes, nesting: int) -> None:
    """Raises InvalidArgument if correct JSON is nested more deeply."""
    if deepest(text) > nesting:
        raise _too_deep(nesting)


def _too_deep(nesting: int) -> InvalidArgument:
    return InvalidArgument(f"JSON nesting is over the limit of {nesting}")


def _read(content: bytes, nesting: int) -> Json:
    before = head(content)
    text = content[before:].decode("utf-8", "surrogateescape")
    rewritten, edits = _rewritten(text) if _STRANGE.search(content) else (text, [])
    decoder = json.JSONDecoder(
        object_pairs_hook=_members,
        parse_int=_integer if _LONG_INTEGER.search(content) else int,
        parse_float=_float if _BIG.search(content) or _LONG_INTEGER.search(content) else float,
    )
    spaces = _SPACES.match(rewritten)
    try:
        value, end = decoder.raw_decode(rewritten, spaces.end() if spaces else 0)
    except json.JSONDecodeError as error:
        position = error.pos
    except _TooBigError:
        position = _first_big(rewritten)
    else:
        if type(value) in {int, float}:  # Python takes `1.` for a number and what follows it
            raise _StoppedError(0)
        if nesting < _RECURSION:
            check_nesting(content[: before + _length(text, _before(end, edits))], nesting)
        return value  # type: ignore[no-any-return] # JSON of any type
    raise _StoppedError(before + _length(text, _before(position, edits)))


def _length(text: str, end: int) -> int:
    """Of the beginning of a text, in bytes."""
    return len(text[:end].encode("utf-8", "surrogateescape"))


def _count_members(value: Json) -> int:
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


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Of members with one name the first counts."""
    members = dict(pairs)
    if len(members) < len(pairs):
        members.clear()
        for name, value in pairs:
            members.setdefault(name, value)
    return members


def _integer(digits: str) -> Json:
    if len(digits) <= 20 and (number := int(digits)) in _INTEGERS:
        return number
    return _float(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise _TooBigError
    return number


def _first_big(text: str) -> int:
    """Where the first number stands that is too big; everything before is right."""
    for match in _STRING_OR_BIG.finditer(text):
        if match[0][0] != '"' and isinf(float(match[0])):
            return match.start()
    return 0


def _rewritten(text: str) -> tuple[str, Sequence[_Edit]]:
    """The text with the strange tokens in Python's way, and what has changed its length."""
    edits: list[_Edit] = []

    def rewrite(match: re.Match[str]) -> str:
        token = match[0]
        if token[0] == '"':
            new = _ESCAPE.sub(_half, token) if "\\u" in token else token
        else:
            new = "Infinity" if token[0] == "I" else " NaN"
        if len(new) != len(token):
            edits.append((match.start(), len(token), len(new)))
        return new

    return _STRANGE_TOKEN.sub(rewrite, text), edits


def _half(escape: re.Match[str]) -> str:
    """As rapidjson does, let the second half of a pair stand alone; the first one is an error."""
    half = escape[1]
    if half is None:
        return escape[0]
    if half[1] in "89abAB":
        return "\\?"
    return chr(int(half, 16)).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def _before(position: int, edits: Sequence[_Edit]) -> int:
    """Where a position was before the edits; one in a token that was rewritten, its start."""
    shift = 0
    for start, old, new in edits:
        if position < start + shift + new:
            return min(position - shift, start)
        shift += new - old
    return position - shift
