"""Work that ends in time, and work that does not."""

import gc
import math
import sys
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mangum.types import LambdaContext

from lambda_serving.errors import DeadlineExceeded, NotFound
from lambda_serving.function.time_budget import InTime, answer_seconds, run_ms
from lambda_serving.servables.cancellation import Cancellation
from support.server_process import until

_SECONDS = 60.0


def _context(left_ms: int) -> LambdaContext:
    clock = SimpleNamespace(get_remaining_time_in_millis=lambda: left_ms)
    return cast("LambdaContext", clock)


@pytest.mark.parametrize(
    ("left", "run", "answer"),
    [(29_000, 27_000, 28.0), (900_000, 898_000, 899.0), (3000, 2700, 2.85)],
)
def test_margin_is_a_tenth_of_the_time_and_two_seconds_at_most(
    left: int, run: int, answer: float
) -> None:
    assert (run_ms(_context(left)), answer_seconds(_context(left))) == (run, answer)


@given(left=st.integers(-10_000, 900_000))
def test_run_ends_before_the_answer_is_due_and_that_before_lambdas_end(left: int) -> None:
    run, answer = run_ms(_context(left)), answer_seconds(_context(left))
    assert answer is not None
    assert run >= 1
    assert run <= 1000 * answer
    assert 1000 * answer < left or left < 200


_NO_CLOCKS = (
    None,
    SimpleNamespace(),
    SimpleNamespace(get_remaining_time_in_millis=None),
    SimpleNamespace(get_remaining_time_in_millis=3000),
    SimpleNamespace(get_remaining_time_in_millis=lambda: None),
)


@pytest.mark.parametrize("context", _NO_CLOCKS)
def test_nothing_is_bounded_without_a_clock(context: Any) -> None:
    assert (run_ms(context), answer_seconds(context)) == (0, None)


@pytest.mark.parametrize("left", [2.0**40, 2**63, math.inf, sys.maxsize])
def test_more_time_than_lambda_has_is_time_enough(left: float) -> None:
    context: Any = SimpleNamespace(get_remaining_time_in_millis=lambda: left)
    assert InTime()(lambda: run_ms(context), answer_seconds(context)) > 900_000


def test_results_and_errors_are_those_of_the_work() -> None:
    in_time = InTime()

    def fail() -> None:
        raise NotFound("no model")

    assert in_time(lambda: 5, None) == 5
    with pytest.raises(NotFound, match="no model"):
        in_time(fail, _SECONDS)
    assert in_time(lambda: 6, _SECONDS) == 6


def test_result_that_nobody_took_is_not_given_to_the_next() -> None:
    in_time = InTime()
    with pytest.raises(ValueError, match="timeout"):
        in_time(lambda: "one caller's", -1)
    assert in_time(lambda: "another's", _SECONDS) == "another's"


def test_work_that_does_not_end_is_cancelled_and_the_next_does_not_wait_for_it() -> None:
    in_time, cancelled, ended = InTime(), threading.Event(), threading.Event()

    def endless() -> threading.Thread:
        cancellation = Cancellation.current()
        assert cancellation is not None
        with cancellation.stopped_by(cancelled.set):
            ended.wait()
        return threading.current_thread()

    with pytest.raises(DeadlineExceeded, match="The time is up"):
        in_time(endless, 0.01)
    other = in_time(threading.current_thread, _SECONDS)
    assert in_time(threading.current_thread, _SECONDS) is other  # and it stays
    assert cancelled.wait(_SECONDS)
    ended.set()


def test_thread_and_its_event_loop_end_with_who_asks() -> None:
    before = {*threading.enumerate()}
    for _ in range(20):
        assert InTime()(lambda: 5, _SECONDS) == 5
    until(lambda: gc.collect() >= 0 and not _threads() - before)


def _threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "function"}
