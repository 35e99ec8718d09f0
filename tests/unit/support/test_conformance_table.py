"""The conformance table is well formed, and its check refuses what it should."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.conformance import TABLE, Case, check, load_cases

_FILES = sorted(TABLE.glob("*.json"))
_KINDS = {
    "json",
    "json_text",
    "json_subset",
    "body",
    "body_contains",
    "error",
    "error_contains",
    "error_contains_any",
}


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_every_file_has_the_fields_of_a_case(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    request, response = record["request"], record["response"]
    assert record.keys() - {"flags", "differs"} == {"about", "source", "request", "response"}
    assert request.keys() - {"headers", "body", "body_base64"} == {"method", "path"}
    assert not {"body", "body_base64"} <= request.keys()
    assert response.keys() - {"headers"} - _KINDS == {"status"}
    assert len(response.keys() & _KINDS) == 1


def test_every_file_is_one_case_and_no_request_comes_twice() -> None:
    cases = load_cases()
    assert [case.name for case in cases] == [path.stem for path in _FILES]
    requests = {(c.method, c.path, c.body, c.flags, *c.headers.items()) for c in cases}
    assert len(requests) == len(cases)


def test_every_kind_of_expectation_is_used() -> None:
    assert {case.kind for case in load_cases()} == _KINDS


def _case(
    kind: str, expected: Any, status: int = 200, response_headers: Mapping[str, str] | None = None
) -> Case:
    return Case(
        name="x",
        method="GET",
        path="/",
        headers={},
        body=b"",
        flags=(),
        status=status,
        response_headers=response_headers or {},
        kind=kind,
        expected=expected,
    )


_ACCEPTED: list[tuple[str, Any, bytes]] = [
    ("json", {"a": [1, 2.5], "b": "c"}, b'{"b":"c",\n "a":[1,2.5000001]}'),
    ("json", {"a": math.inf}, b'{"a": Infinity}'),
    ("json_text", "[NaN, -Infinity]", b"[NaN,-Infinity]"),
    ("json_subset", {"a": {"b": 1}}, b'{"a": {"b": 1, "c": 2}, "d": 3}'),
    ("json_subset", {"a": {}}, b'{"a": {}}'),
    ("body", "", b""),
    ("body_contains", ["a", "c"], b"abc"),
    ("error", "no such thing", b'{"error": "no such thing"}'),
    ("error_contains", "such", b'{"error": "no such thing"}'),
    ("error_contains_any", ["other", "such"], b'{"error": "no such thing"}'),
]

_REFUSED: list[tuple[str, Any, bytes]] = [
    ("json", {"a": 1}, b'{"a": 2}'),
    ("json", {"a": 1}, b'{"a": 1.0}'),
    ("json", {"a": 1.0}, b'{"a": 1}'),
    ("json", {"a": 1}, b'{"a": true}'),
    ("json", {"a": 1.0}, b'{"a": 1.00001}'),
    ("json", {"a": 9007199254740993}, b'{"a": 9007199254740992}'),
    ("json", {"a": 1.0}, b'{"a": NaN}'),
    ("json", {"a": 1}, b'{"a": 1, "b": 2}'),
    ("json", {"a": 1, "b": 2}, b'{"a": 1}'),
    ("json", [1, 2], b"[2, 1]"),
    ("json", [1, 2], b"[1]"),
    ("json", [1], b"[1, 2]"),
    ("json", {}, b""),
    ("json", None, b"not JSON"),
    ("json_text", "[NaN]", b"[null]"),
    ("json_text", "[NaN]", b"[1.0]"),
    ("json_text", "[Infinity]", b"[-Infinity]"),
    ("json_subset", {"a": {"b": 1}}, b'{"a": {"b": 2}}'),
    ("json_subset", {"a": {"b": 1}}, b'{"a": {"c": 1}}'),
    ("json_subset", {"a": {"b": 1}}, b'{"a": 1}'),
    ("json_subset", {"a": [1]}, b'{"a": [1, 2]}'),
    ("body", "", b" "),
    ("body_contains", ["a", "d"], b"abc"),
    ("error", "no such thing", b'{"error": "no such thing "}'),
    ("error", "no such thing", b'{"error": "no such thing", "code": 5}'),
    ("error", "no such thing", b"no such thing"),
    ("error_contains", "such", b'{"detail": "no such thing"}'),
    ("error_contains", "such", b'{"error": ["such"]}'),
    ("error_contains_any", ["other", "else"], b'{"error": "no such thing"}'),
]


@pytest.mark.parametrize(("kind", "expected", "body"), _ACCEPTED)
def test_accepts_an_equal_answer(kind: str, expected: Any, body: bytes) -> None:
    check(_case(kind, expected), 200, {}, body)


@pytest.mark.parametrize(("kind", "expected", "body"), _REFUSED)
def test_refuses_another_answer(kind: str, expected: Any, body: bytes) -> None:
    with pytest.raises(AssertionError, match="case x: got 200"):
        check(_case(kind, expected), 200, {}, body)


def test_refuses_another_status() -> None:
    with pytest.raises(AssertionError, match="got 404 b'', want status 200"):
        check(_case("body", ""), 404, {}, b"")


def test_compares_names_of_headers_in_any_case_and_values_exactly() -> None:
    case = _case("body", "", response_headers={"Content-Type": "text/html"})
    check(case, 200, {"content-type": "text/html", "more": "1"}, b"")
    with pytest.raises(AssertionError, match="want 'text/html'"):
        check(case, 200, {"content-type": "text/html; charset=utf-8"}, b"")
    with pytest.raises(AssertionError, match="Content-Type None"):
        check(case, 200, {}, b"")
