"""Large values freed in steps."""

import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from lambda_serving.api.codec import Growth, Limits, json_reader, parse_examples
from lambda_serving.errors import InvalidArgument
from support.late_json import LATE

_LARGE = ["list of text", "texts for numbers", "objects", "deep", "twenty deep", "one name twice"]


def _largest_step(growth: Growth) -> int:
    """The most blocks of memory that a line of freeing gives back; frees what has grown."""
    last, most = sys.getallocatedblocks(), 0

    def look(_: FrameType, __: str, ___: object) -> Any:
        nonlocal last, most
        now = sys.getallocatedblocks()
        last, most = now, max(most, last - now)
        return look

    sys.settrace(look)
    try:
        growth.__exit__()
    finally:
        sys.settrace(None)
    return most


@pytest.mark.parametrize("case", [*_LARGE, "open objects"])
def test_no_step_frees_much(case: str) -> None:
    growth = Growth()
    before = sys.getallocatedblocks()
    body = LATE[case].body(2**20).replace(b"1", b"1234.5").replace(b'"a"', b'"a longer text"')
    with suppress(InvalidArgument):
        json_reader.parse(body, Limits(growth=growth))
    held = sys.getallocatedblocks() - before
    assert held > 15_000
    assert _largest_step(growth) < held / 4
    assert sys.getallocatedblocks() - before < held / 4


def test_containers_that_grow_in_turn_shrink_to_nothing() -> None:
    inner: list[Any] = [1]
    members: dict[str, Any] = {"b": 1}
    with Growth() as growth:
        outer: list[Any] = []
        growth.add(outer)
        outer += [inner, members]
        for index in range(3):
            growth.add(inner)
            inner += [index] * 40_000
            growth.add(members)
            members[f"a{index}"] = inner
    assert (outer, inner, members) == ([], [1], {"b": 1})


def test_examples_before_a_wrong_one_are_kept_by_no_error() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_examples(b'{"examples":[%b1]}' % (b"{}," * 10_000))
    trace, most = caught.value.__traceback__, 0
    while trace:
        lists = [each for each in trace.tb_frame.f_locals.values() if isinstance(each, list)]
        most = max(most, *(sum(isinstance(each, bytes) for each in one) for one in [[], *lists]))
        trace = trace.tb_next
    assert most == 0
