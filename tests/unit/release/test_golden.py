import json
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.errors import InvalidArgument, Unavailable
from lambda_serving.release.golden import MAX_BYTES, Pair, check, difference, read

_ASKED = '{"instances": [1.0]}'
_ANSWERED = {"predictions": [2.5]}
_LINE = f'{{"request": {_ASKED}, "response": {json.dumps(_ANSWERED)}}}'.encode()
_KEYS = st.text(max_size=3)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_VALUES = st.recursive(_SCALARS, lambda v: st.lists(v) | st.dictionaries(_KEYS, v), max_leaves=9)
_BODIES = st.dictionaries(_KEYS, _VALUES, max_size=3)


def _pair(response: Any, tolerance: float = 1e-3) -> Pair:
    return Pair(3, _ASKED, response, tolerance)


def test_reads_pairs_with_their_lines() -> None:
    own = json.dumps({"request": {}, "response": {}, "tolerance": 1}).encode()
    assert read(_LINE + b"\r\n\n \t\n" + own + b"\n", "golden") == [
        Pair(1, _ASKED, _ANSWERED, 1e-3),
        Pair(4, "{}", {}, 1.0),
    ]
    assert read(b"", "golden") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", " is not JSON: Expecting property name"),
        (b"\xff", " is not JSON: 'utf-8' codec"),
        (b"[" * 100_000, " is not JSON: maximum recursion depth exceeded"),
        (b"[]", ' is not an object: {"request": ..., "response": ...}'),
        (b"{}", ": request must be an object, a whole body"),
        (b'{"request": {}}', ": response must be an object, a whole body"),
        (b'{"request": [[1.0]], "response": {}}', ": request must be an object, a"),
        (_LINE[:-1] + b', "tolerence": 1}', ' has the member "tolerence"; only request, '),
        *(
            (
                _LINE[:-1] + b', "tolerance": %b}' % tolerance,
                f": tolerance must be a positive number, and is {tolerance.decode()}",
            )
            for tolerance in (b"0", b"-1.0", b"NaN", b"Infinity", b'"1"', b"true", b"null")
        ),
        (_LINE[:-1] + b', "tolerance": 1%b}' % (b"0" * 400), ": tolerance must be a positive nu"),
    ],
)
def test_invalid_pair_is_refused_with_its_line(line: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        read(_LINE + b"\n\n" + line, "saved/1/golden.jsonl")
    assert str(error.value).startswith(f"saved/1/golden.jsonl, line 3{reason}")


@pytest.mark.parametrize(
    "line",
    [
        '{"request":%s,"response":{}}',
        ' {  "response" : {"request": [{}]} ,\t"request" :\t%s } ',
        '{"request": {"instances": 1}, "response": {}, "request": %s}',
        '{"request": {}, "response": {"}": "{"}, "\\u0072equest": %s, "tolerance": 1}',
        '\ufeff{"request": %s, "response": {}}',
    ],
)
@pytest.mark.parametrize(
    "request_",
    [
        "{}",
        '{ "instances" :[1.10,1e5 , -0]}',
        '{"instances": [12345678901234567890123, 1.0e309, NaN]}',
        '{"a": 1, "a": 2}',
        '{"\u00fc\\ud83d": "\\"}]\\u00e9\U0001f600"}',
    ],
)
def test_request_is_kept_as_it_stands(line: str, request_: str) -> None:
    [pair] = read((line % request_).encode(), "golden")
    assert pair.request == request_


@given(_BODIES, st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_any_request_is_kept_as_it_was_written(body: Any, separators: tuple[str, str]) -> None:
    text = json.dumps(body, separators=separators, ensure_ascii=separators == (",", ":"))
    try:
        line = f'{{"response": {text}, "request": {text}}}'.encode()
    except UnicodeEncodeError:  # half of a surrogate pair is no UTF-8
        return
    [pair] = read(line, "golden")
    assert pair.request == text


def test_large_request_is_sent_as_it_is_or_refused() -> None:
    """A list that takes more room when it is written anew; text that does when it is quoted."""
    numbers, texts = (f"[{','.join([each] * 1_200_000)}]" for each in ("1.0", '"a"'))
    line = '{{"request":{{"instances":{}}},"response":{{}}}}'.format
    [pair] = read(line(numbers).encode(), "golden")
    assert pair.request == f'{{"instances":{numbers}}}'
    with pytest.raises(InvalidArgument, match=r"^golden, line 1: request has 720\d{4} bytes as se"):
        read(line(texts).encode(), "golden")


def test_too_much_is_refused() -> None:
    assert len(read(b"\n".join([_LINE] * 100), "golden")) == 100
    with pytest.raises(InvalidArgument, match="^golden has 101 pairs; the limit is 100"):
        read(b"\n".join([_LINE] * 101), "golden")
    assert read(b" " * MAX_BYTES, "golden") == []
    with pytest.raises(InvalidArgument, match="^golden has 5242881 bytes; the limit is 5242880"):
        read(b" " * (MAX_BYTES + 1), "golden")


@pytest.mark.parametrize(
    ("want", "got"),
    [
        (0.5, 0.5),
        ([1.0, 0.001], [1.001, 0.0]),  # both are parts of the largest, 1.0
        ([-1.0, 0.0], [-1.0, 0.001]),
        (2, 2.0),
        (2.0, 2),
        (2**64, float(2**64)),
        ([nan, inf, -inf], [nan, inf, -inf]),
        ([nan, inf, -inf], [None, None, None]),
        (None, nan),
        (None, None),
        ([inf, 1.0], [inf, 1.0005]),
        ([], []),
        ({"a": [1.0], "b": "x"}, {"b": "x", "a": [1.0]}),
        ([{"a": 1.0, "b": 1000.0}], [{"a": 1.0, "b": 1000.9}]),
        ([{"a": 0.1}, {"a": 100.0}], [{"a": 0.2}, {"a": 100.0}]),  # one output, two rows of it
        ([True, "x", {"b64": "eA=="}], [True, "x", {"b64": "eA=="}]),
    ],
)
def test_an_answer_that_is_as_expected(want: Any, got: Any) -> None:
    assert difference(_pair({"outputs": want}), {"outputs": got}) is None


@pytest.mark.parametrize(
    ("want", "got", "told"),
    [
        ([[1.0, 0.11]], [[1.0, 0.12]], "outputs[0][1] is 0.12, expected 0.11"),
        ([0.0], [1e-9], "outputs[0] is 1e-09, expected 0.0"),
        ([999, 1000], [999, 1001], "outputs[1] is 1001, expected 1000"),
        (2**63 - 1, 2**63 - 2, f"outputs is {2**63 - 2}, expected {2**63 - 1}"),
        (10**400, 1.0, "outputs is 1.0, expected 1" + "0" * 199 + "..."),
        ([nan], [1.0], "outputs[0] is 1.0, expected NaN"),
        ([1.0], [None], "outputs[0] is null, expected 1.0"),
        ([inf], [-inf], "outputs[0] is -Infinity, expected Infinity"),
        ([1.0, inf], [1.0, 1e300], "outputs[1] is 1e+300, expected Infinity"),
        (1, True, "outputs is true, expected 1"),
        (False, 0, "outputs is 0, expected false"),
        (True, False, "outputs is false, expected true"),
        ("1", 1, 'outputs is 1, expected "1"'),
        (None, 0.0, "outputs is 0.0, expected null"),
        ("x", "ü\n", 'outputs is "\\u00fc\\n", expected "x"'),
        ([], {}, "outputs is an object, expected a list of 0"),
        ({}, None, "outputs is null, expected an object"),
        ([1.0], [1.0, 2.0], "outputs has the length 2, expected 1"),
        ([[1.0], [2.0]], [[1.0], 2.0], "outputs[1] is 2.0, expected a list of 1"),
        ({"a": 1.0}, {}, "outputs.a is missing"),
        ({}, {"a b": [1.0]}, 'outputs["a b"], not expected, is a list of 1'),
        ({"a": 1.0}, {"b": 1.0}, "outputs.a is missing; outputs.b, not expected, is 1.0"),
        ({"a": 1.0, "b": 1000.0}, {"a": 1.1, "b": 1000.0}, "outputs.a is 1.1, expected 1.0"),
        ([0.5, 0.5], [0.6, 0.7], "outputs[0] is 0.6, expected 0.5"),
    ],
)
def test_the_first_difference_is_reported(want: Any, got: Any, told: str) -> None:
    assert difference(_pair({"outputs": want}), {"outputs": got}) == f"line 3: {told}"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"error": "No."}, 'outputs is missing; error, not expected, is "No."'),
        ("text", 'the answer is "text", expected an object'),
        (None, "the answer is null, expected an object"),
    ],
)
def test_an_answer_of_another_kind_is_reported(answer: Any, told: str) -> None:
    assert difference(_pair({"outputs": 1.0}), answer) == f"line 3: {told}"


def test_tolerance_of_a_pair_is_its_own() -> None:
    assert difference(_pair({"outputs": [10.0]}, 0.1), {"outputs": [11.0]}) is None
    assert difference(_pair({"outputs": [10.0]}, 0.09), {"outputs": [11.0]}) is not None


@given(_BODIES, _BODIES)
def test_every_answer_is_as_itself_and_what_is_told_is_short(want: Any, got: Any) -> None:
    assert difference(_pair(want), want) is None
    assert difference(_pair(json.loads(json.dumps(want))), want) is None
    assert len(difference(_pair(want), got) or "") < 1000


def test_long_and_deep_values_are_cut() -> None:
    text, deep, other = "x" * 10**6, 1, 2
    for _ in range(5000):
        deep, other = [deep], [other]  # type: ignore[assignment]
    for want, got in (({text: text}, {text: ""}), ({"a": deep}, {"a": other})):
        told = difference(_pair(want), got)
        assert told is not None
        assert "..." in told
        assert len(told) < 500


def test_check_asks_each_request_until_one_differs() -> None:
    pairs = [Pair(n, f"[{n}]", {"predictions": [n]}, 1e-3) for n in (1, 2, 3)]
    asked: list[Any] = []

    def answer(request: str) -> Any:
        asked.extend(json.loads(request))
        return {"predictions": [min(asked[-1], 1)]}

    assert check(pairs[:1], answer) is None
    assert check(pairs, answer) == "line 2: predictions[0] is 1, expected 2"
    assert asked == [1, 1, 2]


def test_check_lets_errors_of_asking_through() -> None:
    def answer(_: Any) -> Any:
        raise Unavailable("no network")

    with pytest.raises(Unavailable, match="no network"):
        check([_pair({})], answer)
