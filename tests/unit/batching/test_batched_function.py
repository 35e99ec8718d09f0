"""Joined runs of one function: which requests are joined, and what each gets."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.batching import Batcher, BatchingParameters, Report
from lambda_serving.dtypes import Array
from lambda_serving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ServingError,
)
from lambda_serving.servables.servable import Servable
from support.held_runs import (
    SECONDS,
    Clock,
    Held,
    Setup,
    answer,
    busy,
    double,
    only,
    positive,
    signature,
    total,
    twice,
)


def _standing() -> float:
    return 100.0


def test_requests_that_wait_become_one_run_and_each_gets_its_rows() -> None:
    with busy() as setup:
        futures = [setup.submit([[1.0]]), setup.submit([[2.0], [3.0]]), setup.submit([[4.0]])]
        setup.function.release()
        assert [answer(each) for each in futures] == [[[2.0]], [[4.0], [6.0]], [[8.0]]]
    assert setup.function.sizes == [1, 4]


def test_request_alone_waits_for_nobody() -> None:
    with busy(clock=_standing, batch_timeout_micros=0) as setup:
        assert setup.function.sizes == [1]  # the one before this block


def test_batches_grow_as_long_as_that_makes_rows_cheaper() -> None:
    with busy(batch_timeout_micros=0) as setup:
        futures = [setup.submit([[float(i)]]) for i in range(100)]
        setup.function.release()
        assert [answer(each) for each in futures] == [[[2.0 * i]] for i in range(100)]
    assert setup.function.sizes[:4] == [1, 1, 1, 1]
    assert sum(setup.function.sizes) == 101


def test_run_waits_for_the_answer() -> None:
    with busy() as setup:
        setup.function.release()
        outputs = setup.servable.run("", {"x": np.array([1.0])})
    assert outputs == {"y": np.array([2.0])}


def test_batch_that_is_full_is_followed_by_another() -> None:
    with busy(max_batch_size=2) as setup:
        futures = [setup.submit([[float(i)]]) for i in range(5)]
        setup.function.release()
        assert [answer(each) for each in futures] == [[[2.0 * i]] for i in range(5)]
    assert setup.function.sizes == [1, 2, 2, 1]


def test_batch_is_padded_to_an_allowed_size_with_a_row_that_the_model_takes() -> None:
    with busy(max_batch_size=8, allowed_batch_sizes=(2, 4, 8)) as setup:
        futures = [setup.submit([[1.0]]), setup.submit([[2.0], [3.0]])]
        setup.function.release()
        assert [answer(each) for each in futures] == [[[2.0]], [[4.0], [6.0]]]
    assert [x.tolist() for x, _ in setup.function.calls[1:]] == [[[1.0], [2.0], [3.0], [2.0]]]
    assert [(each.sizes, each.size, each.padding) for each in setup.reports] == [
        ((1,), 2, 1),
        ((1, 2), 4, 1),
    ]


def test_rows_of_other_lengths_are_filled_up_when_asked_for() -> None:
    with busy(pad_variable_length_inputs=True) as setup:
        short, long = setup.submit([[1.0]]), setup.submit([[2.0, 3.0]])
        setup.function.release()
        assert [answer(short), answer(long)] == [[[2.0, 2.0]], [[4.0, 6.0]]]
    assert setup.function.sizes == [1, 2]


@pytest.mark.parametrize(
    "other", [np.array([1], np.int32), np.array([[1.0]], np.float32)], ids=["dtype", "shape"]
)
def test_request_that_cannot_be_joined_goes_to_another_batch(other: Array) -> None:
    with busy() as setup:
        futures = [setup.submit([1.0]), setup.submit(other), setup.submit([3.0])]
        setup.function.release()
        assert [answer(each) for each in futures] == [[2.0], (2 * other).tolist(), [6.0]]
    assert setup.function.sizes == [1, 2, 1]


def test_bad_request_fails_alone() -> None:
    with busy(positive) as setup:
        futures = [setup.submit([[float(i)]]) for i in (1, 2, -3, 4, 5, 6, 7, 8)]
        setup.function.release()
        with pytest.raises(InvalidArgument, match="positive numbers only"):
            futures.pop(2).result(SECONDS)
        assert [answer(each) for each in futures] == [[[2.0 * i]] for i in (1, 2, 4, 5, 6, 7, 8)]
    assert setup.function.sizes == [1, 8, 4, 2, 2, 1, 1, 4]  # halves, down to the bad one


def test_outputs_without_a_row_each_are_run_alone_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with busy(total, allowed_batch_sizes=(4, 1000)) as setup, caplog.at_level(logging.WARNING):
        futures = [setup.submit([1.0]), setup.submit([2.0, 3.0])]
        setup.function.release()
        assert [answer(each) for each in futures] == [1.0, 5.0]
        assert setup.servable.submit("", {"x": np.array([1.0])}) is None
        assert setup.servable.run("", {"x": np.array([1.0, 2.0])}) == {"y": np.array(3.0)}
    assert setup.function.sizes == [4, 1, 1, 2, 2]  # padded, found out, then each as it came
    (record,) = caplog.records
    assert record.getMessage() == (
        "Requests of signature 'serving_default' are no longer joined: for 4 rows its outputs"
        " are []"
    )


def test_request_without_rows_is_run_alone_and_changes_nothing() -> None:
    with busy(total) as setup:
        futures = [setup.submit(np.zeros(0, np.float32)), setup.submit(np.zeros(0, np.float32))]
        setup.function.release()
        assert [answer(each) for each in futures] == [0.0, 0.0]
    assert setup.function.sizes == [1, 0, 0]


@pytest.mark.parametrize(
    "shapes", [((1,), (None,)), ((), (None,)), ((None,), (3, 2)), ((None,), ())]
)
def test_signature_with_a_fixed_first_dimension_is_left_as_it_is(
    shapes: tuple[tuple[int | None, ...], tuple[int | None, ...]],
) -> None:
    function = Held(double)
    function.release()
    servable = Servable(
        {"serving_default": signature(*shapes)},
        {"serving_default": function},
        definitions={},
        close=lambda: None,
    )
    with Batcher(BatchingParameters(num_batch_threads=1)) as batcher:
        joined = batcher.joined(servable, Path())
        assert joined.submit("", {"x": np.array(1.0)}) is None
        assert joined.run("", {"x": np.array(1.0)}) == {"y": np.array(2.0)}
        joined.close()


def test_quick_function_runs_in_the_thread_of_the_caller() -> None:
    function = Held(double, is_quick=True)
    function.release()
    with Batcher(BatchingParameters(num_batch_threads=1)) as batcher:
        setup = Setup(batcher, function, [])
        threads = []
        for _ in range(50):  # how quick it is depends on the machine
            future = setup.submit([1.0])
            if future.done():
                break
            future.add_done_callback(lambda _: threads.append(threading.current_thread()))
            future.result(SECONDS)
        else:
            raise AssertionError("no run was quick")
        assert answer(future) == [2.0]
        setup.servable.close()


def test_joined_run_is_bound_by_the_last_deadline() -> None:
    clock = Clock()
    with busy(clock=clock) as setup:
        futures = [setup.submit([1.0], 50), setup.submit([2.0], 2000)]
        clock.ahead += 0.01
        setup.function.release()
        assert [answer(each) for each in futures] == [[2.0], [4.0]]
    (_, unbound), (_, bound) = setup.function.calls
    assert unbound == 0
    assert 50 < bound < 2000


def test_deadline_that_passes_in_the_queue_is_told_to_nobody_else() -> None:
    clock = Clock()
    with busy(clock=clock) as setup:
        late, patient, endless = (setup.submit([1.0], ms) for ms in (50, 2000, 0))
        clock.ahead += 1
        setup.function.release()
        with pytest.raises(
            DeadlineExceeded, match="Run.. timeout exceeded while waiting in batching queue"
        ):
            late.result(SECONDS)
        assert [answer(patient), answer(endless)] == [[2.0], [2.0]]
    assert [timeout for _, timeout in setup.function.calls] == [0, 0]
    assert setup.function.sizes == [1, 2]
    report = setup.reports[1]
    assert report == Report("batch_threads", report.queue_seconds, (1, 1), 2)
    assert all(1 <= seconds < SECONDS for seconds in report.queue_seconds)


def test_joined_run_that_takes_too_long_is_not_tried_again() -> None:
    def slow(x: Array) -> Array:
        if len(x) > 1:
            raise DeadlineExceeded("Timed out waiting for notification")
        return x

    with busy(slow) as setup:
        futures = [setup.submit([1.0]), setup.submit([2.0])]
        setup.function.release()
        for future in futures:
            with pytest.raises(DeadlineExceeded, match="Timed out"):
                future.result(SECONDS)
    assert setup.function.sizes == [1, 2]


def test_cancelled_request_is_not_run() -> None:
    with busy() as setup:
        cancelled, other = setup.submit([1.0]), setup.submit([2.0])
        assert cancelled.cancel()
        setup.function.release()
        assert answer(other) == [4.0]
    assert setup.function.sizes == [1, 1]


def test_closing_runs_what_waits_and_takes_no_more() -> None:
    function = Held(double)
    function.release()
    patient = BatchingParameters(num_batch_threads=1, batch_timeout_micros=10**9)
    with Batcher(patient, clock=_standing) as batcher:
        setup = Setup(batcher, function, [])
        future = setup.submit([1.0])
        assert not function.calls
        setup.servable.close()
        assert future.done()
        with pytest.raises(FailedPrecondition, match="Session has been closed"):
            setup.submit([1.0])


_COMPUTES = {"double": double, "positive": positive, "total": total, "twice": twice}


@st.composite
def _parameters(draw: st.DrawFn) -> BatchingParameters:
    sizes = sorted(draw(st.sets(st.integers(1, 12), min_size=1, max_size=4)))
    splitting = draw(st.booleans())
    return BatchingParameters(
        max_batch_size=12 if splitting else sizes[-1],
        enable_large_batch_splitting=splitting,
        max_execution_batch_size=sizes[-1] if splitting else None,
        allowed_batch_sizes=draw(st.sampled_from([(), tuple(sizes)])),
        max_enqueued_batches=1000,
        num_batch_threads=draw(st.integers(1, 3)),
        batch_timeout_micros=draw(st.sampled_from([0, 1])),
    )


@st.composite
def _requests(draw: st.DrawFn) -> Array:
    dtype = draw(st.sampled_from([np.float32, np.int32]))
    shape = draw(st.sampled_from([(), (1,), (2,), (0,)]))
    rows = draw(st.integers(0, 5))
    size = rows * int(np.prod(shape))
    values = draw(st.lists(st.integers(-1, 9), min_size=size, max_size=size))
    return np.array(values, dtype).reshape(rows, *shape)


def _outcome(call: Callable[[], Array]) -> tuple[object, ...]:
    """What came of a call, comparable."""
    try:
        array = call()
    except ServingError as error:
        return type(error), str(error)
    return array.dtype, array.tolist()


@settings(max_examples=100, deadline=None)
@given(_parameters(), st.sampled_from(sorted(_COMPUTES)), st.lists(_requests(), max_size=12))
def test_concurrent_requests_get_what_they_would_have_got_alone(
    parameters: BatchingParameters, name: str, requests: list[Array]
) -> None:
    compute = _COMPUTES[name]
    function = Held(compute)
    with Batcher(parameters) as batcher:
        setup = Setup(batcher, function, [])
        fitting = [each for each in requests if len(each) <= parameters.max_batch_size]
        futures = [setup.submit(each) for each in fitting]
        function.release()
        joined = [_outcome(partial(only, each)) for each in futures]
        setup.servable.close()
    assert joined == [_outcome(partial(compute, each)) for each in fitting]
