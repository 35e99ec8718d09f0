"""Errors late in a predict request: which one is found, and at what cost."""

import math
import re
import sys
import tracemalloc
from collections.abc import Sequence
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.api.codec import Limits, values
from lambda_serving.api.codec.json_in_errors import echo
from lambda_serving.api.codec.json_reader import Json
from lambda_serving.dtypes import DType
from lambda_serving.errors import InvalidArgument, ServingError
from support.late_json import LATE, Late
from support.predict_requests import QUICK, decoded, outcome


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[%b1], %b[1]]}' % (b"1," * 100_000, b"[1]," * 100_000),
        b'{"instances": [{"x": [%b1]}, %b{"x": [1]}]}' % (b"1," * 100_000, b'{"x":[1]},' * 50_000),
        b'{"instances": [%b[]]}' % (b"[1]," * 100_000),
    ],
    ids=["wide first list", "wide first row", "last list empty"],
)
def test_ragged_lists_cost_no_more_than_their_length(body: bytes) -> None:
    start = thread_time()
    with pytest.raises(InvalidArgument, match="Expecting tensor size: "):
        decoded(body, {"x": DType.FLOAT})
    assert thread_time() - start < 10


def _elements_kept(error: BaseException) -> int:
    """How many elements the lists and objects have that an error's traceback keeps."""
    trace, waiting, seen, count = error.__traceback__, list[object](), set[int](), 0
    while trace:
        waiting += trace.tb_frame.f_locals.values()
        trace = trace.tb_next
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | dict) and id(each) not in seen:
            seen.add(id(each))
            count += len(each)
            waiting += each.values() if isinstance(each, dict) else each
    return count


@pytest.mark.parametrize("end", [b'{"y":"a"}]', b"[[[2]]]]", b"1,}"])
@pytest.mark.parametrize("element", [b"0.5", b"[0.5]", b"[[1,2],[3,4]]", b'{"x":[1]}', b'"text"'])
@pytest.mark.parametrize("key", [b"instances", b"inputs"])
def test_an_error_keeps_no_more_than_a_piece_of_a_large_value(
    key: bytes, element: bytes, end: bytes
) -> None:
    body = b'{"%b":[%b,%b}' % (key, b",".join([element] * 100_000), end)
    with pytest.raises(InvalidArgument) as caught:
        decoded(body, {"x": DType.FLOAT})
    assert _elements_kept(caught.value) < 70_000


def _first_error(value: Json, dtype: DType) -> str:
    """Of a value as TensorFlow Serving looks for it: each element in turn, depth first."""
    sizes = values.shape(value)

    def look(each: Json, level: int) -> None:
        if level < len(sizes) and isinstance(each, list) and len(each) == sizes[level]:
            for inner in each:
                look(inner, level + 1)
        elif level < len(sizes) or isinstance(each, list):
            raise InvalidArgument(_irregular(each, sizes, level))
        else:
            values.check(each, dtype)  # of a scalar

    try:
        look(value, 0)
    except ServingError as error:
        return f"{error.code.name}: {error}"
    return ""


def _irregular(value: Json, sizes: Sequence[int], level: int) -> str:
    rank = len(sizes)
    if not isinstance(value, list):
        return (
            f"JSON Value: {echo(value)} found at incorrect level: {level + 1}"
            f" in the JSON DOM. Expected at level: {rank}"
        )
    if level >= rank:
        return f"Encountered list at unexpected level: {level} expected < {rank}"
    return (
        f"Encountered list at unexpected size: {len(value)} at level: {level}"
        f" expected size: {sizes[level]}"
    )


_ODD = st.sampled_from(
    [
        *(1, 2**31, -(2**40), 2**63, -1, 1.5, math.inf, True, None, "a", {}, {"b64": "YQ=="}),
        *({"b64": "?"}, {"b64": 1}, [], [1], [1, 2], [[1]], {"a": 1}),
    ]
)


@given(
    sizes=st.lists(st.integers(0, 3), max_size=4),
    good=st.sampled_from([1, 1.5, "a", True, {"b64": "YQ=="}]),
    odd=st.lists(st.tuples(st.integers(0, 80), _ODD), max_size=3),
    dtype=st.sampled_from([DType.FLOAT, DType.INT8, DType.UINT64, DType.BOOL, DType.STRING])
    | st.sampled_from([DType.COMPLEX64, DType.INT64, DType.DOUBLE]),
)
def test_first_error_in_depth_first_order_is_reported(
    sizes: Sequence[int], good: Json, odd: Sequence[tuple[int, Json]], dtype: DType
) -> None:
    count = iter(range(1000))

    def build(level: int) -> Json:
        at = next(count)
        for place, value in odd:
            if place == at:
                return value
        if level == len(sizes):
            return good
        return [build(level + 1) for _ in range(sizes[level])]

    value = build(0)
    try:
        values.check(value, dtype)
        found = ""
    except ServingError as error:
        found = f"{error.code.name}: {error}"
    assert found == _first_error(value, dtype)
    array = values.array_or_none(value, dtype)
    assert found == "" or array is None


@pytest.mark.parametrize("count", [1, 256, 257, 258, 2500])
@pytest.mark.parametrize("odd", ['["a"]', "[1,2]", "[[1]]", "1", "[]", '{"x":[1]}', '{"b64":""}'])
def test_an_odd_instance_is_found_among_many(count: int, odd: str) -> None:
    """The block of instances in which it is does not matter."""

    def refusal(count: int) -> str:
        rows = ",".join(["[1]"] * count + [odd] + ["[1]"] * 1500)
        return outcome(b'{"instances":[%b]}' % rows.encode(), {"x": DType.FLOAT}, QUICK)

    places = (rf"(element: |item ){number}\b" for number in (1, count))
    alone, among = (
        re.sub(place, "", refusal(n)) for place, n in zip(places, (1, count), strict=True)
    )
    assert among == alone
    assert among.startswith("INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "odd", ['{"x":[1]}', '{"x":1,"y":2}', '{"x":[1],"y":2}', "[1]", '{"x":["a"]}']
)
def test_an_odd_object_is_found_among_many(odd: str) -> None:
    def refusal(count: int) -> str:
        rows = ",".join(['{"x":[1],"y":[2]}'] * count + [odd])
        inputs = {"x": DType.FLOAT, "y": DType.FLOAT}
        said = outcome(b'{"instances":[%b]}' % rows.encode(), inputs, QUICK)
        return re.sub(rf"(element: |item ){count}\b", "", said)

    assert refusal(3000) == refusal(1)
    assert refusal(1).startswith("INVALID_ARGUMENT")


@pytest.mark.parametrize("case", LATE)
def test_an_error_at_the_end_is_found_in_few_steps(case: str) -> None:
    """Calls stand for time: looking at each value by itself took up to nine for each byte."""
    late = LATE[case]
    body = late.body(100_000)
    found, calls = _outcome_and_calls(body, late)
    assert found.startswith("INVALID_ARGUMENT") == (case != "one name only")
    assert calls < (3 if late.early else 1.25) * len(body)


@pytest.mark.parametrize("case", ["deep", "objects"])
def test_freeing_a_large_value_takes_no_step_for_each_container(case: str) -> None:
    _, few = _outcome_and_calls(LATE[case].body(300_000), LATE[case])
    _, many = _outcome_and_calls(LATE[case].body(600_000), LATE[case])
    assert many - few < 300_000


def test_a_long_string_is_searched_a_million_characters_at_a_time() -> None:
    searches: list[str] = []

    def note(_: object, event: str, what: object) -> None:
        if event == "c_call" and getattr(what, "__name__", "") == "match":
            searches.append(event)

    case = LATE["long string without end"]
    body = case.body(2**22)
    sys.setprofile(note)
    try:
        found = outcome(body, case.inputs, QUICK)
    finally:
        sys.setprofile(None)
    assert found.endswith(f"Missing a closing quotation mark in string. at offset: {len(body)}")
    assert len(searches) >= 5


def _outcome_and_calls(body: bytes, late: Late) -> tuple[str, int]:
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        found = outcome(body, late.inputs, QUICK)
    finally:
        sys.setprofile(None)
    return found, calls


@pytest.mark.parametrize("case", ["list of text", "float, columnar", "half pairs", "objects"])
def test_finding_an_error_takes_little_more_memory_than_what_is_held_for_it(case: str) -> None:
    body = LATE[case].body(2**20)
    held: list[int] = []
    limits = Limits(hold=held.append)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument):
            decoded(body, LATE[case].inputs, limits)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < sum(held) + 24 * 2**20
