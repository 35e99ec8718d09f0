"""The conformance table: requests and the answers they must get, one file of `data/predict` a case.

A file is one object; its name without `.json` names the case:

    about     one line for the reader
    source    TensorFlow Serving's test that says so, or "read from source" with the place
    request   method, path as it stands on the wire, headers?, and body? (text, sent as UTF-8)
              or body_base64?
    response  status, headers? (each must be there and equal), and exactly one of
                json                 the whole document, see below
                json_text            the same as text, where it holds NaN or Infinity
                json_subset          every key given is there and equal, recursively
                body                 the exact text
                body_contains        a list of pieces of the text
                error                the document is {"error": this}
                error_contains       ... a piece of the message
                error_contains_any   ... a list, one of which is a piece of the message
    flags?    flags of the server, where the case needs other than the defaults
    differs?  what TensorFlow Serving answers instead, and why we do not

Documents are compared by value: the order of keys and the layout are free, floats have a relative
tolerance of 1e-6, NaN equals NaN. An integer is not a float: 1 and 1.0 differ, as they do for
clients that tell dtypes by them.

The table knows no transport: a test sends each case its own way and calls `check` with the reply.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TABLE", "Case", "check", "load_cases"]

TABLE = Path(__file__).parents[1] / "data" / "predict"


@dataclass(frozen=True, slots=True)
class Case:
    """One request and the answer it must get; `kind` says how `expected` is compared."""

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    flags: tuple[str, ...]
    status: int
    response_headers: Mapping[str, str]
    kind: str
    expected: Any


def load_cases() -> list[Case]:
    """All cases of the table, by name."""
    return [_case(path) for path in sorted(TABLE.glob("*.json"))]


def check(case: Case, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raises AssertionError, with both sides in words, unless this reply answers the case.

    Names of headers are compared in lower case, as ASGI and Lambda events give them.
    """
    reply = f"case {case.name}: got {status} {body[:1000]!r}"
    if status != case.status:
        raise AssertionError(f"{reply}, want status {case.status}")
    got = {name.lower(): value for name, value in headers.items()}
    for name, value in case.response_headers.items():
        if got.get(name.lower()) != value:
            raise AssertionError(f"{reply} with {name} {got.get(name.lower())!r}, want {value!r}")
    if not _COMPARISONS[case.kind](case.expected, body):
        raise AssertionError(f"{reply}, want {case.kind} {case.expected!r}")


def _case(path: Path) -> Case:
    record = json.loads(path.read_text(encoding="utf-8"))
    request, response = record["request"], record["response"]
    (kind,) = response.keys() - {"status", "headers"}
    if "body_base64" in request:
        body = base64.b64decode(request["body_base64"])
    else:
        body = request.get("body", "").encode()
    return Case(
        name=path.stem,
        method=request["method"],
        path=request["path"],
        headers=request.get("headers", {}),
        body=body,
        flags=tuple(record.get("flags", ())),
        status=response["status"],
        response_headers=response.get("headers", {}),
        kind=kind,
        expected=response[kind],
    )


_NOT_JSON = object()  # equal to nothing that a case expects


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return _NOT_JSON


def _message(body: bytes) -> str:
    """The message in an error's body; empty, as no message is, for any other body."""
    match _document(body):
        case {"error": str(message), **rest} if not rest:
            return message
    return ""


def _same(expected: Any, actual: Any) -> bool:
    match expected, actual:
        case float(), float():
            both_nan = math.isnan(expected) and math.isnan(actual)
            return both_nan or math.isclose(expected, actual, rel_tol=1e-6)
        case dict(), dict():
            return expected.keys() == actual.keys() and all(
                _same(value, actual[key]) for key, value in expected.items()
            )
        case list(), list():
            return len(expected) == len(actual) and all(map(_same, expected, actual))
    return type(expected) is type(actual) and bool(expected == actual)


def _includes(actual: Any, expected: Any) -> bool:
    if not (isinstance(expected, dict) and isinstance(actual, dict)):
        return _same(expected, actual)
    return all(key in actual and _includes(actual[key], expected[key]) for key in expected)


_COMPARISONS: dict[str, Callable[[Any, bytes], bool]] = {
    "json": lambda expected, body: _same(expected, _document(body)),
    "json_text": lambda expected, body: _same(json.loads(expected), _document(body)),
    "json_subset": lambda expected, body: _includes(_document(body), expected),
    "body": lambda expected, body: body == expected.encode(),
    "body_contains": lambda expected, body: all(piece.encode() in body for piece in expected),
    "error": lambda expected, body: _message(body) == expected,
    "error_contains": lambda expected, body: expected in _message(body),
    "error_contains_any": lambda expected, body: any(p in _message(body) for p in expected),
}
