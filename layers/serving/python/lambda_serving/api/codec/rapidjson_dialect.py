"""JSON as TensorFlow Serving reads it: rapidjson 1.1.0 with its iterative parser.

The dialect differs from standard JSON: it has the bare tokens `NaN`, `Inf` and `Infinity` (each
with a leading `-` too), stops after the first complete value, takes a zero byte for the end of the
text, passes bytes through that are not UTF-8, and skips a byte order mark. The first of several
members with one name counts. Integers that fit 64 bits are integers, larger ones are doubles.

The parser goes from token to token, with one regular expression for all usual values. It keeps its
own list of open containers, so that nesting takes no stack:

    [1, {"a": [2, 3]}]     `[` opens a list, `1` is a value in it, `{` opens an object in it,
                           `[2, 3]` is one value of it, and each bracket that follows closes one

Source: rapidjson 1.1.0 reader.h, with the flags of tensorflow_serving/util/json_tensor.cc.
"""

import re
from collections.abc import Sequence
from math import isinf
from typing import NoReturn

import orjson

from lambda_serving.api.codec.json_value import Container, Json
from lambda_serving.errors import InvalidArgument

__all__ = ["parse", "resume"]

_SPACE = rb"[ \t\n\r]*+"
# In Python 3.11.2 (Debian bookworm) a possessive group whose last repetition fails half-way ends
# where that failed. So numbers have no such group; after that of lists, its last byte is checked.
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SHORT_STRING = rb'"([^"\\\x00-\x1f]{0,256}+)"'
"""A string without escapes, such as `"abc"`; the group has its content."""
_HIGH, _LOW = rb"[dD][89abAB][0-9a-fA-F]{2}", rb"[dD][c-fC-F][0-9a-fA-F]{2}"
"""The hex digits of a surrogate pair, such as `\ud83d\ude00`."""
_PARTS = {
    b"space": _SPACE,
    b"number": _NUMBER,
    b"string": _SHORT_STRING,
    b"high": _HIGH,
    b"low": _LOW,
}


def _pattern(verbose: bytes) -> re.Pattern[bytes]:
    """A pattern with spaces and comments that mean nothing, and `%(name)b` for a part."""
    return re.compile(verbose % _PARTS, re.VERBOSE)


_VALUE = _pattern(
    rb"""(?:
        ( \[ (?: %(space)b %(number)b %(space)b , )*+ (?<=[\[,])   # [1, 2.5, -3e4]
             %(space)b %(number)b %(space)b \]
        | %(number)b (?! [.eE] )                                   # 2.5, but not the 2 of `2.`
        )
        | %(string)b
        | ( true | false | null )
        | ( [\[{] )                                                # whose content follows
    ) %(space)b"""
)
"""A usual value: a number or a list of numbers, a short string, a word, or an opening bracket."""
_NAME = _pattern(rb"%(string)b %(space)b : %(space)b")
"""The name of a member up to its value, such as `"a" : `."""
_ANY_NUMBER = re.compile(_NUMBER)
_NOT_FINITE = re.compile(rb"-?(?:NaN|Inf(?:inity|(?!i)))")
_START = re.compile(rb"\xef?\xbb?\xbf?" + _SPACE)
"""A byte order mark, or what rapidjson takes for one, and white space."""
_SPACES = re.compile(_SPACE)
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_HIGH_SURROGATE = re.compile(_HIGH)
_CHARACTERS = _pattern(
    rb"""(?:
        [^"\\\x00-\x1f]{1,1000}                    # characters that stand for themselves
        | \\ ["\\/bfnrt]
        | \\u (?! %(high)b ) [0-9a-fA-F]{4}        # also the second half of a pair, alone
        | \\u %(high)b \\u %(low)b
    ){0,1000}"""
)
"""Characters of a string that are right, a million at most: no other thread runs meanwhile."""
_ESCAPE = _pattern(
    rb"""\\ (?:
        ([^u])                                     # \n
        | u (....) (?: (?<= %(high)b ) \\u ( %(low)b ) )?   # \u00e9, or a pair
    )"""
)
_ESCAPES = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
_WORDS: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}
_COMMA, _COLON, _MINUS, _POINT, _QUOTE = b',:-."'
_CLOSE_LIST, _CLOSE_OBJECT = b"]}"


def parse(text: bytes, nesting: int) -> Json:
    """The first JSON value in `text`.

    Time and memory grow with the length of the text, the stack does not.
    Raises InvalidArgument with rapidjson's words and the offset of the byte where it stops.
    """
    if not text:
        raise InvalidArgument("JSON Parse error: The document is empty")
    text += b"\0"  # the end, as rapidjson sees it
    position = _end(_START, text, 0)
    if text[position] in b"\0]},:":
        _fail("The document is empty.", position)
    root: list[Json] = []
    _parse(text, position, nesting, [root], is_first=True)
    return root[0]


def resume(text: bytes, position: int, around: Sequence[Json], nesting: int) -> None:
    """Raises what `parse` raises, but reads the text only from `position` on.

    `around` holds the containers that are open there, behind a list around the root. At `position`
    an element or member has just ended, or the innermost container has just been opened.
    """
    text += b"\0"
    containers: list[Container] = [{} if isinstance(each, dict) else [] for each in around]
    is_first = not around[-1]
    _parse(text, _skip(text, position), nesting, containers, is_first=is_first)


def _parse(
    text: bytes, position: int, nesting: int, around: list[Container], *, is_first: bool
) -> None:
    """Reads on until every container is closed but the list around the root."""
    container = around.pop()
    while True:
        if not (is_first and (not around or text[position] != _closing(container))):
            while around and text[position] == _closing(container):
                position = _skip(text, position + 1)
                container = around.pop()
            if not around:
                return
            position = _comma(text, position, container)
        name = ""
        if isinstance(container, dict):
            name, position = _name(text, position)
        value, position, opened = _value(text, position)
        if len(around) >= nesting and isinstance(value, list | dict):
            raise InvalidArgument(f"JSON nesting is over the limit of {nesting}")
        if isinstance(container, list):
            container.append(value)
        else:
            container.setdefault(name, value)
        is_first = opened is not None
        if opened is not None:
            around.append(container)
            container = opened


def _comma(text: bytes, position: int, container: Container) -> int:
    """The position of the element or member after the comma."""
    if text[position] != _COMMA:
        error = (
            "Missing a comma or ']' after an array element."
            if isinstance(container, list)
            else "Missing a comma or '}' after an object member."
        )
        _fail(error, position)
    return _skip(text, position + 1)


def _closing(container: Container) -> int:
    return _CLOSE_LIST if isinstance(container, list) else _CLOSE_OBJECT


def _value(text: bytes, position: int) -> tuple[Json, int, Container | None]:
    """A value, the position of the next token, and the value again if it is an open container."""
    match = _VALUE.match(text, position)
    if match is None:
        value, position = _unusual_value(text, position)
        return value, _skip(text, position), None
    numbers, string, word, opening = match.groups()
    if numbers is not None:
        return _numbers(numbers, position), match.end(), None
    if string is not None:
        return string.decode(errors="surrogateescape"), match.end(), None
    if word is not None:
        return _WORDS[word], match.end(), None
    opened: Container = [] if opening == b"[" else {}
    return opened, match.end(), opened


def _numbers(token: bytes, offset: int) -> Json:
    """The value of a number or of a list of numbers."""
    try:
        value: Json = orjson.loads(token)
    except orjson.JSONDecodeError:  # a number is too large: nothing else can be wrong
        numbers = _ANY_NUMBER.finditer(token)
        start = next(number.start() for number in numbers if isinf(float(number[0])))
        _fail("Number too big to be stored in double.", offset + start)
    return value


def _unusual_value(text: bytes, position: int) -> tuple[Json, int]:
    """A value that `_VALUE` does not match: a long or escaped string, NaN, infinity, an error."""
    if text[position] == _QUOTE:
        return _string(text, position)
    if match := _NOT_FINITE.match(text, position):
        return float(match[0]), match.end()
    for word in (b"true", b"false", b"null", b"NaN", b"-NaN", b"Infinity", b"-Infinity"):
        same = _same(word, text, position)
        if same > word.startswith(b"-"):
            _fail("Invalid value.", position + same)
    match = _ANY_NUMBER.match(text, position)
    if match is None:
        _fail("Invalid value.", position + (text[position] == _MINUS))
    number, end = match[0].lower(), match.end()
    if text[end] == _POINT and b"." not in number and b"e" not in number:
        _fail("Miss fraction part in number.", end + 1)
    if text[end] in b"eE" and b"e" not in number:
        _fail("Miss exponent in number.", end + 1 + (text[end + 1] in b"+-"))
    return _numbers(number, position), end


def _same(word: bytes, text: bytes, position: int) -> int:
    """How many bytes of `word` stand at `position`."""
    count = 0
    while count < len(word) and text[position + count] == word[count]:
        count += 1
    return count


def _name(text: bytes, position: int) -> tuple[str, int]:
    """The name of a member, and the position of its value."""
    if match := _NAME.match(text, position):
        return match[1].decode(errors="surrogateescape"), match.end()
    if text[position] != _QUOTE:
        _fail("Missing a name for object member.", position)
    name, position = _string(text, position)
    position = _skip(text, position)
    if text[position] != _COLON:
        _fail("Missing a colon after a name of object member.", position)
    return name, _skip(text, position + 1)


def _string(text: bytes, start: int) -> tuple[str, int]:
    """The string whose opening quote is at `start`, and the position behind it."""
    position, end = start, start + 1
    while end > position:
        position, end = end, _end(_CHARACTERS, text, end)
    if text[end] != _QUOTE:
        _fail(_error_in_string(text, end), end)
    try:  # quick, but refuses what is not UTF-8
        string: str = orjson.loads(text[start : end + 1])
    except orjson.JSONDecodeError:
        string = _ESCAPE.sub(_character, text[start + 1 : end]).decode(errors="surrogateescape")
    return string, end + 1


def _error_in_string(text: bytes, position: int) -> str:
    if text[position] == 0:
        return "Missing a closing quotation mark in string."
    if text[position : position + 2] != rb"\u":
        return "Invalid escape character in string."
    is_high = _HIGH_SURROGATE.match(text, position + 2)
    if not _HEX.match(text, position + 2) or (
        is_high
        and text[position + 6 : position + 8] == rb"\u"
        and not _HEX.match(text, position + 8)
    ):
        return "Incorrect hex digit after \\u escape in string."
    return "The surrogate pair in string is invalid."


def _character(escape: re.Match[bytes]) -> bytes:
    """The bytes that an escape, or a surrogate pair of them, stands for."""
    kind, code, low = escape[1], escape[2], escape[3]
    if kind is not None:
        return bytes([_ESCAPES[ord(kind)]])
    number = int(code, 16)
    if low is not None:
        number = 0x10000 + ((number & 0x3FF) << 10 | int(low, 16) & 0x3FF)
    # rapidjson, too, lets the second half of a pair stand alone
    return chr(number).encode("utf-8", "surrogatepass")


def _skip(text: bytes, position: int) -> int:
    """The position of the next token, at `position` or behind white space there."""
    return _end(_SPACES, text, position) if text[position] in b" \t\n\r" else position


def _end(pattern: re.Pattern[bytes], text: bytes, position: int) -> int:
    """The end of the match of a pattern that always matches."""
    match = pattern.match(text, position)
    return match.end() if match else position


def _fail(error: str, offset: int) -> NoReturn:
    raise InvalidArgument(f"JSON Parse error: {error} at offset: {offset}")
