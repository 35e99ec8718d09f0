"""Golden pairs: requests of predict that a SavedModel carries, and how it must answer them.

The file is JSON lines: `{"request": {"instances": [[1.0]]}, "response": {"predictions": [2.5]}}`,
optionally with `"tolerance": 0.01`. Request and response are whole bodies; a request is sent byte
for byte as written. Blank lines are skipped.

Numbers are equal when they differ by at most `tolerance` times the largest magnitude in the same
output of the expected response; two integers, such as int64 values, must be identical. `NaN` and
the infinities equal themselves and null, which replaces them where JSON is strict, as in a direct
invoke's answer. Everything else must be identical, except for the order of members.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Any

from lambda_serving.errors import InvalidArgument

__all__ = ["GOLDEN", "MAX_BYTES", "MAX_PAIRS", "MAX_REQUEST", "Pair", "check", "difference", "read"]

GOLDEN = "assets.extra/golden.jsonl"
MAX_BYTES = 5 * 2**20
"""Bytes of the whole file."""
MAX_REQUEST = 6 * 2**20 - 4096
"""Bytes of a request as a JSON string: Lambda takes 6 MB with the event around it."""
MAX_PAIRS = 100
_TOLERANCE = 1e-3
"""Ten times what compiling tolerates for float32, as processors round differently too. It is the
precision of half; bfloat16, with a precision of 8e-3, needs a `tolerance`."""
_SHOWN = 200
_JSON = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\r\n]*")
_Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """The pair on line `line` of the file, counted from 1; `request` is its text."""

    line: int
    request: str
    response: Any
    tolerance: float


def read(content: bytes, origin: object) -> list[Pair]:
    """The pairs in a file's content.

    Raises InvalidArgument for content in another form, over 5 MiB or 100 pairs, or with a request
    too large for Lambda; the message names `origin` and the line.
    """
    if len(content) > MAX_BYTES:
        raise InvalidArgument(
            f"{origin} has {len(content)} bytes; the limit is {MAX_BYTES}. Keep fewer pairs"
        )
    lines = [(n, line) for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if len(lines) > MAX_PAIRS:
        raise InvalidArgument(
            f"{origin} has {len(lines)} pairs; the limit is {MAX_PAIRS}. Keep fewer"
        )
    return [_pair(number, line, f"{origin}, line {number}") for number, line in lines]


def difference(pair: Pair, answer: Any) -> str | None:
    """The first place where `answer` is not the pair's response, as a sentence of bounded length.

    Such as `line 3: predictions[0][2] is 0.12, expected 0.11`.
    """
    largest: dict[_Path, float] = {}
    for path, value, _ in _walk(pair.response, pair.response):
        if _is_number(value) and isfinite(number := _float(value)):
            largest[_output(path)] = max(abs(number), largest.get(_output(path), 0.0))
    for path, want, got in _walk(pair.response, answer):
        if not _alike(want, got, pair.tolerance * largest.get(_output(path), 0.0)):
            return f"line {pair.line}: {_told(path, want, got)}"
    return None


def check(pairs: Iterable[Pair], answer: Callable[[str], Any]) -> str | None:
    """The first difference in the answers to the pairs' requests; raises what `answer` raises."""
    differences = (difference(pair, answer(pair.request)) for pair in pairs)
    return next(filter(None, differences), None)


def _pair(number: int, line: bytes, origin: str) -> Pair:
    try:
        text = line.decode("utf-8-sig")
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{origin} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f'{origin} is not an object: {{"request": ..., "response": ...}}')
    for name in ("request", "response"):
        if not isinstance(document.get(name), dict):
            raise InvalidArgument(f"{origin}: {name} must be an object, a whole body")
    if others := sorted(document.keys() - {"request", "response", "tolerance"}):
        raise InvalidArgument(
            f"{origin} has the member {_shown(others[0])}; only request, response and tolerance"
            " have a meaning"
        )
    tolerance = document.get("tolerance", _TOLERANCE)
    if not (_is_number(tolerance) and isfinite(value := _float(tolerance)) and value > 0):
        raise InvalidArgument(
            f"{origin}: tolerance must be a positive number, and is {_shown(tolerance)}"
        )
    request = _member(text, "request")
    if (size := len(json.dumps(request, ensure_ascii=False).encode())) > MAX_REQUEST:
        raise InvalidArgument(
            f"{origin}: request has {size} bytes as sent to Lambda; the limit is"
            f" {MAX_REQUEST}. Ask for fewer rows"
        )
    return Pair(number, request, document["response"], value)


def _member(text: str, wanted: str) -> str:
    """The text of a member's value in an object that was read before; of several, the last."""
    found, position = "", text.index("{")
    while text[position] != "}":
        name, end = _JSON.raw_decode(text, _after_blanks(text, position + 1))
        start = _after_blanks(text, _after_blanks(text, end) + 1)
        _, end = _JSON.raw_decode(text, start)
        if name == wanted:
            found = text[start:end]
        position = _after_blanks(text, end)
    return found


def _after_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


def _walk(want: Any, got: Any) -> Iterator[tuple[_Path, Any, Any]]:
    """Path and both values of each leaf, front to back; values of different shapes are leaves.

    Keeps a stack of its own, because documents may be nested as deeply as Python can read them.
    """
    around = [iter([(_Path(), want, got)])]
    while around:
        for path, some, other in around[-1]:
            inner = _inner(path, some, other)
            if inner is not None:
                around.append(inner)
                break
            yield path, some, other
        else:
            around.pop()


def _inner(path: _Path, want: Any, got: Any) -> Iterator[tuple[_Path, Any, Any]] | None:
    """The parts of two objects with the same members, or of two lists of the same length."""
    match want, got:
        case dict(), dict() if want.keys() == got.keys():
            return (((*path, name), value, got[name]) for name, value in want.items())
        case list(), list() if len(want) == len(got):
            both = zip(want, got, strict=True)
            return (((*path, index), *values) for index, values in enumerate(both))
    return None


def _output(path: _Path) -> _Path:
    """The members on the way to a value: they name its output, in rows and in columns alike."""
    return tuple(part for part in path if isinstance(part, str))


def _alike(want: Any, got: Any, allowed: float) -> bool:
    """Whether two values that `_walk` does not look into are equal, floats within `allowed`.

    With `allowed` 0.1: 1.0 and 1.05, 1 and 1.05, NaN and NaN, NaN and null are alike; 1 and 2, NaN
    and 1.0, true and 1, and a list and a list of another length are not.
    """
    match want, got:
        case (dict() | list(), _) | (_, dict() | list()):
            return False  # `_walk` yields these only when their shapes differ
        case (bool() | str() | None, _) | (_, bool() | str() | None):
            same = type(want) is type(got) and want == got
            return same or {_strict(want), _strict(got)} == {None}
        case int(), int():
            return bool(want == got)
    some, other = _float(want), _float(got)
    if isnan(some) or isnan(other):
        return isnan(some) and isnan(other)
    return some == other or abs(some - other) <= allowed


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(number: float) -> float:
    """The number as a float; too large an integer becomes infinite, as in TensorFlow Serving."""
    return float(str(number)) if isinstance(number, int) else number


def _strict(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def _told(path: _Path, want: Any, got: Any) -> str:
    place = _place(path)
    match want, got:
        case dict(), dict():
            lacking = [name for name in want if name not in got][:1]
            more = [name for name in got if name not in want][:1]
            told = [f"{_place((*path, name))} is missing" for name in lacking]
            told += [
                f"{_place((*path, name))}, not expected, is {_shown(got[name])}" for name in more
            ]
            return "; ".join(told)
        case list(), list():
            return f"{place} has the length {len(got)}, expected {len(want)}"
    return f"{place} is {_shown(got)}, expected {_shown(want)}"


def _place(path: _Path) -> str:
    if not path:
        return "the answer"
    parts = [
        f".{part}" if isinstance(part, str) and part.isidentifier() else f"[{json.dumps(part)}]"
        for part in path
    ]
    return _cut("".join(parts).removeprefix("."))


def _shown(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
