"""Joined runs over functions that are told when to run and what to answer."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.batching import Batcher, BatchingParameters, Report, read
from lambda_serving.batching.queue import Batch, Queue
from lambda_serving.batching.scheduler import Scheduler
from lambda_serving.batching.sizing import Sizing
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from lambda_serving.servables.servable import Servable, Signature, TensorSpec

_SECONDS = 300
Compute = Callable[[Array], Array]


class _Held:
    """A function of one input and one output whose first run lasts until `release`."""

    def __init__(self, compute: Compute, *, is_quick: bool = False) -> None:
        self._is_quick = is_quick
        self.calls: list[tuple[Array, int]] = []
        self._compute = compute
        self._started = threading.Event()
        self._released = threading.Event()

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        (x,) = inputs
        self.calls.append((x, timeout_ms))
        self._started.set()
        assert self._released.wait(_SECONDS)
        return [self._compute(x)]

    def is_quick(self, _: Sequence[Array]) -> bool:
        return self._is_quick

    @property
    def sizes(self) -> list[int]:
        return [len(x) for x, _ in self.calls]

    def wait_until_started(self) -> None:
        assert self._started.wait(_SECONDS)

    def release(self) -> None:
        self._released.set()


class _Clock:
    """Goes on, and ahead when told."""

    ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


def _standing() -> float:
    return 100.0


def _double(x: Array) -> Array:
    return x + x


def _positive(x: Array) -> Array:
    if (x < 0).any():
        raise InvalidArgument("positive numbers only")
    return x + x


def _total(x: Array) -> Array:
    return np.asarray(x.sum())


def _twice(x: Array) -> Array:
    return np.concatenate([x, x])


def _as_wide_as_largest(x: Array) -> Array:
    return np.zeros((len(x), int(x.max())), np.float32)


def _signature(
    shape: tuple[int | None, ...] | None, output: tuple[int | None, ...] | None
) -> Signature:
    return Signature(
        "serving_default",
        inputs={"x": TensorSpec(DType.FLOAT, shape, "x:0")},
        outputs={"y": TensorSpec(DType.FLOAT, output, "y:0")},
        method_name="",
        definition=b"",
        defaults={},
    )


class _Setup:
    """A servable of one function, its runs joined by one thread, which is kept busy at first."""

    def __init__(self, batcher: Batcher, function: _Held, reports: list[Report]) -> None:
        self.function = function
        self.reports = reports
        servable = Servable(
            {"serving_default": _signature(None, None)},
            {"serving_default": function},
            definitions={},
            close=lambda: None,
        )
        self.servable = batcher.joined(servable, Path())

    def submit(self, x: object, timeout_ms: int = 0) -> "Future[list[Array]]":
        inputs = {"x": np.asarray(x, getattr(x, "dtype", np.float32))}
        future = self.servable.submit("", inputs, timeout_ms=timeout_ms)
        assert future
        return future


@contextmanager
def _busy(
    compute: Compute = _double, *, clock: Callable[[], float] = monotonic, **parameters: object
) -> Iterator[_Setup]:
    """What is submitted inside waits for `release`, behind one row that runs.

    The timeout is one that has always passed: batches are as large as they can be.
    """
    reports: list[Report] = []
    wanted: dict[str, Any] = {"num_batch_threads": 1, "batch_timeout_micros": 1, **parameters}
    known = BatchingParameters(**wanted)
    with Batcher(known, report=reports.append, clock=clock) as batcher:
        setup = _Setup(batcher, _Held(compute), reports)
        first = setup.submit([[7.0]])
        setup.function.wait_until_started()
        try:
            yield setup
        finally:
            setup.function.release()
            first.exception(_SECONDS)
            setup.servable.close()


def _only(future: "Future[list[Array]]") -> Array:
    (array,) = future.result(_SECONDS)
    return array


def _answer(future: "Future[list[Array]]") -> object:
    return _only(future).tolist()


def test_requests_that_wait_become_one_run_and_each_gets_its_rows() -> None:
    with _busy() as setup:
        futures = [setup.submit([[1.0]]), setup.submit([[2.0], [3.0]]), setup.submit([[4.0]])]
        setup.function.release()
        assert [_answer(each) for each in futures] == [[[2.0]], [[4.0], [6.0]], [[8.0]]]
    assert setup.function.sizes == [1, 4]


def test_request_alone_waits_for_nobody() -> None:
    with _busy(clock=_standing, batch_timeout_micros=0) as setup:
        assert setup.function.sizes == [1]  # the one before this block


def test_batches_grow_as_long_as_that_makes_rows_cheaper() -> None:
    with _busy(batch_timeout_micros=0) as setup:
        futures = [setup.submit([[float(i)]]) for i in range(100)]
        setup.function.release()
        assert [_answer(each) for each in futures] == [[[2.0 * i]] for i in range(100)]
    assert setup.function.sizes[:4] == [1, 1, 1, 1]
    assert sum(setup.function.sizes) == 101


def test_run_waits_for_the_answer() -> None:
    with _busy() as setup:
        setup.function.release()
        outputs = setup.servable.run("", {"x": np.array([1.0])})
    assert outputs == {"y": np.array([2.0])}


def test_batch_that_is_full_is_followed_by_another() -> None:
    with _busy(max_batch_size=2) as setup:
        futures = [setup.submit([[float(i)]]) for i in range(5)]
        setup.function.release()
        assert [_answer(each) for each in futures] == [[[2.0 * i]] for i in range(5)]
    assert setup.function.sizes == [1, 2, 2, 1]


def test_large_request_is_split_and_put_together_again() -> None:
    with _busy(
        max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=4
    ) as setup:
        small, large = setup.submit([0.0]), setup.submit([float(i) for i in range(9)])
        setup.function.release()
        assert _answer(small) == [0.0]
        assert _answer(large) == [2.0 * i for i in range(9)]
    assert setup.function.sizes == [1, 4, 4, 2]  # what fits joins the small one


def test_split_request_fails_once_with_the_error_of_its_part() -> None:
    with _busy(
        _positive, max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=2
    ) as setup:
        future = setup.submit([1.0, 2.0, 3.0, -4.0, 5.0])
        setup.function.release()
        with pytest.raises(InvalidArgument, match="positive numbers only"):
            future.result(_SECONDS)


def test_batch_is_padded_to_an_allowed_size_with_a_row_that_the_model_takes() -> None:
    with _busy(max_batch_size=8, allowed_batch_sizes=(2, 4, 8)) as setup:
        futures = [setup.submit([[1.0]]), setup.submit([[2.0], [3.0]])]
        setup.function.release()
        assert [_answer(each) for each in futures] == [[[2.0]], [[4.0], [6.0]]]
    assert [x.tolist() for x, _ in setup.function.calls[1:]] == [[[1.0], [2.0], [3.0], [2.0]]]
    assert [(each.sizes, each.size, each.padding) for each in setup.reports] == [
        ((1,), 2, 1),
        ((1, 2), 4, 1),
    ]


def test_rows_of_other_lengths_are_filled_up_when_asked_for() -> None:
    with _busy(pad_variable_length_inputs=True) as setup:
        short, long = setup.submit([[1.0]]), setup.submit([[2.0, 3.0]])
        setup.function.release()
        assert [_answer(short), _answer(long)] == [[[2.0, 2.0]], [[4.0, 6.0]]]
    assert setup.function.sizes == [1, 2]


@pytest.mark.parametrize(
    "other", [np.array([1], np.int32), np.array([[1.0]], np.float32)], ids=["dtype", "shape"]
)
def test_what_cannot_be_joined_goes_to_another_batch(other: Array) -> None:
    with _busy() as setup:
        futures = [setup.submit([1.0]), setup.submit(other), setup.submit([3.0])]
        setup.function.release()
        assert [_answer(each) for each in futures] == [[2.0], (2 * other).tolist(), [6.0]]
    assert setup.function.sizes == [1, 2, 1]


def test_bad_request_fails_alone() -> None:
    with _busy(_positive) as setup:
        futures = [setup.submit([[float(i)]]) for i in (1, 2, -3, 4, 5, 6, 7, 8)]
        setup.function.release()
        with pytest.raises(InvalidArgument, match="positive numbers only"):
            futures.pop(2).result(_SECONDS)
        assert [_answer(each) for each in futures] == [[[2.0 * i]] for i in (1, 2, 4, 5, 6, 7, 8)]
    assert setup.function.sizes == [1, 8, 4, 2, 2, 1, 1, 4]  # halves, down to the bad one


def test_outputs_without_a_row_each_are_run_alone_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with _busy(_total, allowed_batch_sizes=(4, 1000)) as setup, caplog.at_level(logging.WARNING):
        futures = [setup.submit([1.0]), setup.submit([2.0, 3.0])]
        setup.function.release()
        assert [_answer(each) for each in futures] == [1.0, 5.0]
        assert setup.servable.submit("", {"x": np.array([1.0])}) is None
        assert setup.servable.run("", {"x": np.array([1.0, 2.0])}) == {"y": np.array(3.0)}
    assert setup.function.sizes == [4, 1, 1, 2, 2]  # padded, found out, then each as it came
    (record,) = caplog.records
    assert record.getMessage() == (
        "Requests of signature 'serving_default' are no longer joined: for 4 rows its outputs"
        " are []"
    )


def test_split_request_without_a_row_each_is_run_whole() -> None:
    with _busy(
        _total, max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=2
    ) as setup:
        future = setup.submit([1.0, 2.0, 3.0])
        setup.function.release()
        assert _answer(future) == 6.0


def test_split_request_whose_parts_have_rows_of_different_sizes_is_run_whole() -> None:
    """As it would be alone: such rows are as wide as the widest of their request."""
    with _busy(
        _as_wide_as_largest,
        max_batch_size=9,
        enable_large_batch_splitting=True,
        max_execution_batch_size=2,
    ) as setup:
        future = setup.submit([1.0, 2.0, 3.0], timeout_ms=60_000)
        setup.function.release()
        assert _only(future).shape == (3, 3)
    x, timeout_ms = setup.function.calls[-1]
    assert (len(x), 0 < timeout_ms <= 60_000) == (3, True)


def test_request_without_rows_is_run_alone_and_changes_nothing() -> None:
    with _busy(_total) as setup:
        futures = [setup.submit(np.zeros(0, np.float32)), setup.submit(np.zeros(0, np.float32))]
        setup.function.release()
        assert [_answer(each) for each in futures] == [0.0, 0.0]
    assert setup.function.sizes == [1, 0, 0]


@pytest.mark.parametrize(
    "shapes", [((1,), (None,)), ((), (None,)), ((None,), (3, 2)), ((None,), ())]
)
def test_signature_with_a_fixed_first_dimension_is_left_as_it_is(
    shapes: tuple[tuple[int | None, ...], tuple[int | None, ...]],
) -> None:
    function = _Held(_double)
    function.release()
    servable = Servable(
        {"serving_default": _signature(*shapes)},
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
    function = _Held(_double, is_quick=True)
    function.release()
    with Batcher(BatchingParameters(num_batch_threads=1)) as batcher:
        setup = _Setup(batcher, function, [])
        threads = []
        for _ in range(50):  # how quick it is depends on the machine
            future = setup.submit([1.0])
            if future.done():
                break
            future.add_done_callback(lambda _: threads.append(threading.current_thread()))
            future.result(_SECONDS)
        else:
            raise AssertionError("no run was quick")
        assert _answer(future) == [2.0]
        setup.servable.close()


def test_joined_run_is_bound_by_the_last_deadline() -> None:
    clock = _Clock()
    with _busy(clock=clock) as setup:
        futures = [setup.submit([1.0], 50), setup.submit([2.0], 2000)]
        clock.ahead += 0.01
        setup.function.release()
        assert [_answer(each) for each in futures] == [[2.0], [4.0]]
    (_, unbound), (_, bound) = setup.function.calls
    assert unbound == 0
    assert 50 < bound < 2000


def test_deadline_that_passes_in_the_queue_is_told_to_nobody_else() -> None:
    clock = _Clock()
    with _busy(clock=clock) as setup:
        late, patient, endless = (setup.submit([1.0], ms) for ms in (50, 2000, 0))
        clock.ahead += 1
        setup.function.release()
        with pytest.raises(
            DeadlineExceeded, match="Run.. timeout exceeded while waiting in batching queue"
        ):
            late.result(_SECONDS)
        assert [_answer(patient), _answer(endless)] == [[2.0], [2.0]]
    assert [timeout for _, timeout in setup.function.calls] == [0, 0]
    assert setup.function.sizes == [1, 2]
    report = setup.reports[1]
    assert report == Report("batch_threads", report.queue_seconds, (1, 1), 2)
    assert all(1 <= seconds < _SECONDS for seconds in report.queue_seconds)


def test_joined_run_that_takes_too_long_is_not_tried_again() -> None:
    def slow(x: Array) -> Array:
        if len(x) > 1:
            raise DeadlineExceeded("Timed out waiting for notification")
        return x

    with _busy(slow) as setup:
        futures = [setup.submit([1.0]), setup.submit([2.0])]
        setup.function.release()
        for future in futures:
            with pytest.raises(DeadlineExceeded, match="Timed out"):
                future.result(_SECONDS)
    assert setup.function.sizes == [1, 2]


def test_cancelled_request_is_not_run() -> None:
    with _busy() as setup:
        cancelled, other = setup.submit([1.0]), setup.submit([2.0])
        assert cancelled.cancel()
        setup.function.release()
        assert _answer(other) == [4.0]
    assert setup.function.sizes == [1, 1]


def test_closing_runs_what_waits_and_takes_no_more() -> None:
    function = _Held(_double)
    function.release()
    patient = BatchingParameters(num_batch_threads=1, batch_timeout_micros=10**9)
    with Batcher(patient, clock=_standing) as batcher:
        setup = _Setup(batcher, function, [])
        future = setup.submit([1.0])
        assert not function.calls
        setup.servable.close()
        assert future.done()
        with pytest.raises(FailedPrecondition, match="Session has been closed"):
            setup.submit([1.0])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.float32(1), "Batching Run() input tensors must have at least one dimension"),
        ([0.0] * 5, "Task size 5 is larger than maximum input batch size 4"),
    ],
)
def test_request_that_no_batch_takes_is_refused(x: object, message: str) -> None:
    with _busy(max_batch_size=4) as setup, pytest.raises(InvalidArgument) as refused:
        setup.submit(x)
    assert str(refused.value) == message


def test_inputs_of_unlike_sizes_are_refused() -> None:
    signature = _signature(None, None)
    spec = TensorSpec(DType.FLOAT, None, "z:0")
    two = Signature("two", {"x": spec, "z": spec}, signature.outputs, "", b"", {})
    servable = Servable({"two": two}, {"two": _Held(_double)}, definitions={}, close=lambda: None)
    with Batcher(BatchingParameters(num_batch_threads=1)) as batcher:
        joined = batcher.joined(servable, Path())
        with pytest.raises(InvalidArgument, match="must have equal 0th-dimension size"):
            joined.run("two", {"x": np.zeros(1), "z": np.zeros(2)})
        joined.close()


def test_full_queue_refuses_until_there_is_room() -> None:
    with _busy(max_batch_size=2, max_enqueued_batches=2) as setup:
        waiting = [setup.submit([1.0]) for _ in range(4)]
        with pytest.raises(Unavailable) as refused:
            setup.submit([1.0])
        setup.function.release()
        assert [_answer(each) for each in waiting] == [[2.0]] * 4
        assert _answer(setup.submit([1.0])) == [2.0]
    assert str(refused.value) == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches"
        " enqueued and max_enqueued_batches is 2"
    )


def test_full_queue_refuses_what_would_be_split_into_too_many() -> None:
    with _busy(
        max_batch_size=100,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
        max_enqueued_batches=2,
    ) as setup:
        setup.submit([1.0] * 3)
        with pytest.raises(Unavailable) as refused:
            setup.submit([1.0] * 6)
    assert str(refused.value) == (
        "The batch scheduling queue to which this task was submitted is full; task size is 6 but"
        " scheduling capacity is only 5 (num_enqueued_batches=1, max_enqueued_batches=2,"
        " max_execution_batch_size=4)"
    )


def test_open_batches_of_many_kinds_count_as_many_as_their_rows_fill() -> None:
    with _busy(max_batch_size=4, max_enqueued_batches=2) as setup:
        futures = [setup.submit(np.zeros((1, width), np.float32)) for width in range(1, 9)]
        with pytest.raises(Unavailable, match="currently 2 batches enqueued"):
            setup.submit(np.zeros((1, 9), np.float32))
        setup.function.release()
        assert [_answer(each) for each in futures] == [[[0.0] * width] for width in range(1, 9)]


class TestQueue:
    """The times of batches, without threads."""

    @staticmethod
    def _put(queue: Queue, rows: int, now: float, kind: str = "") -> None:
        queue.put([np.zeros(rows)], kind, now, None)

    def test_open_batch_waits_for_its_time(self) -> None:
        queue = Queue(BatchingParameters(batch_timeout_micros=5000))
        self._put(queue, 1, 10.0)
        self._put(queue, 1, 10.004)
        assert queue.due() == pytest.approx(10.005)
        assert queue.take(10.0049) is None
        batch = queue.take(10.0051)
        assert batch
        assert (batch.size, bool(queue), queue.due()) == (2, False, None)

    def test_full_batch_does_not_wait(self) -> None:
        queue = Queue(BatchingParameters(batch_timeout_micros=5000, max_batch_size=2))
        self._put(queue, 2, 10.0)
        assert queue.due() == 0
        assert queue.take(10.0)

    def test_batch_without_room_for_the_next_does_not_wait(self) -> None:
        queue = Queue(BatchingParameters(batch_timeout_micros=5000, max_batch_size=4))
        self._put(queue, 3, 10.0)
        self._put(queue, 2, 10.0)
        assert [batch.size for batch in (queue.take(10.0),) if batch] == [3]
        assert queue.take(10.0) is None

    def test_what_is_over_the_size_worth_joining_stays(self) -> None:
        queue = Queue(BatchingParameters(max_batch_size=4))
        for rows in (1, 1, 2, 1):  # a closed batch and an open one
            self._put(queue, rows, 10.0)
        queue.most = 2
        sizes = []
        while batch := queue.take(10.0):
            sizes.append([task.size for task in batch.tasks])
        assert sizes == [[1, 1], [2], [1]]

    def test_rare_kind_is_not_overtaken_for_ever(self) -> None:
        queue = Queue(BatchingParameters(batch_timeout_micros=5000, max_batch_size=1000))
        self._put(queue, 1, 10.0, "rare")
        self._put(queue, 1000, 10.001)
        self._put(queue, 1000, 10.002)
        sizes = [batch.size for now in (10.0, 10.006, 10.006) if (batch := queue.take(now))]
        assert sizes == [1000, 1, 1000]


class TestSizing:
    """Sizes by what rows cost: seconds of a run by its size."""

    @staticmethod
    def _limit(cost: Callable[[int], float], runs: int = 200, **parameters: Any) -> int:
        sizing = Sizing(BatchingParameters(**parameters))
        for _ in range(runs):
            sizing.record(sizing.limit, cost(sizing.limit))
        return sizing.limit

    def test_grows_to_the_largest_batch_when_more_rows_take_no_longer(self) -> None:
        assert self._limit(lambda _: 0.01, max_batch_size=100) == 100

    def test_stays_at_one_row_when_more_take_as_long_each(self) -> None:
        assert self._limit(lambda size: 0.01 * size) == 1

    def test_stops_where_rows_become_dearer(self) -> None:
        assert self._limit(lambda size: 0.01 + 0.001 * size + 0.0001 * size**2) == 8

    def test_grows_through_allowed_sizes(self) -> None:
        sizes = (4, 32, 128)
        assert self._limit(lambda _: 1, max_batch_size=128, allowed_batch_sizes=sizes) == 128

    def test_one_slow_run_decides_nothing(self) -> None:
        slow = iter([9.0] + [0.01] * 1000)
        assert self._limit(lambda _: next(slow), max_batch_size=64) == 64

    @pytest.mark.parametrize(("runs", "limit"), [(90, 1), (190, 8)])
    def test_learns_anew_after_a_while(self, runs: int, limit: int) -> None:
        early = iter([0.01 * size for size in (1, 1, 1, 1, 2, 2, 2, 2)])
        assert self._limit(lambda _: next(early, 0.01), runs, max_batch_size=8) == limit

    def test_larger_requests_count_too(self) -> None:
        sizing = Sizing(BatchingParameters(max_batch_size=8))
        for size in (1, 1, 1, 1, 2, 2, 2, 2, 8, 8, 8, 8, 3, 4, 3, 4):
            sizing.record(size, 0.01)
        assert sizing.limit == 8


_COMPUTES = {"double": _double, "positive": _positive, "total": _total, "twice": _twice}


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
    function = _Held(compute)
    with Batcher(parameters) as batcher:
        setup = _Setup(batcher, function, [])
        fitting = [each for each in requests if len(each) <= parameters.max_batch_size]
        futures = [setup.submit(each) for each in fitting]
        function.release()
        joined = [_outcome(partial(_only, each)) for each in futures]
        setup.servable.close()
    assert joined == [_outcome(partial(compute, each)) for each in fitting]


def _written(folder: Path, text: str) -> Path:
    path = folder / "batching_params.pbtxt"
    path.write_text(text)
    return path


def test_parameters_are_read_from_text(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        num_batch_threads { value: 3 }
        thread_pool_name { value: "pool" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 64
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
        """,
    )
    assert read(path) == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=3,
        thread_pool_name="pool",
        allowed_batch_sizes=(8, 64),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=64,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max_batch_size: 3", "1:17 : "),
        ("\nmax_bach_size { value: 3 }", '2:1 : .*no field named "max_bach_size"'),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        (
            "allowed_batch_sizes: 8 allowed_batch_sizes: 8 max_batch_size { value: 8 }",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        (
            "allowed_batch_sizes: 8",
            "Last entry .* must match max_batch_size; last entry was 8; expected 1000",
        ),
        (
            "allowed_batch_sizes: 9 enable_large_batch_splitting { value: true }",
            "Last entry .* must be equal to max_execution_batch_size; last entry was 9; .* 1000",
        ),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2000 }",
            "max_execution_batch_size must be positive and at most max_batch_size 1000; was 2000",
        ),
    ],
)
def test_wrong_parameters_are_told_with_their_file(tmp_path: Path, text: str, reason: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(InvalidArgument, match=f"The config file {path} is not valid: {reason}"):
        read(path)


def test_missing_parameters_file_is_told() -> None:
    with pytest.raises(NotFound, match="/nowhere: No such file"):
        read(Path("/nowhere"))


def test_model_has_parameters_of_its_own_or_is_left_as_it_is(tmp_path: Path) -> None:
    _written(tmp_path, "max_batch_size { value: 2 }")
    with Batcher(BatchingParameters(num_batch_threads=1), per_model=True) as batcher:
        for folder, joins in ((tmp_path, True), (tmp_path / "none", False)):
            servable = Servable(
                {"serving_default": _signature(None, None)},
                {"serving_default": (function := _Held(_double))},
                definitions={},
                close=lambda: None,
            )
            function.release()
            joined = batcher.joined(servable, folder)
            future = joined.submit("", {"x": np.zeros(1)})
            assert (future is not None) is joins
            joined.close()


def test_batch_that_does_not_end_keeps_only_its_own_model_waiting() -> None:
    released, ran, done = threading.Event(), list[str](), threading.Event()

    def endless(_: Batch) -> None:
        assert released.wait(_SECONDS)
        ran.append("endless")

    def ends(_: Batch) -> None:
        ran.append("other")
        done.set()

    scheduler = Scheduler(1, "batches", monotonic)
    parameters = BatchingParameters(num_batch_threads=1, max_batch_size=1)
    lanes = [scheduler.lane(parameters, endless, "m") for _ in range(2)]
    lanes.append(scheduler.lane(parameters, ends, "n"))
    for lane in lanes:
        scheduler.put(lane, [np.zeros(1)], "kind", None)
    assert done.wait(_SECONDS)
    assert ran == ["other"]
    released.set()
    for lane in lanes:
        scheduler.close_lane(lane)
    scheduler.close()
    assert ran == ["other", "endless", "endless"]
