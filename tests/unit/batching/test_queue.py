"""Batches that wait: when each is due, and when no more requests fit."""

from pathlib import Path

import numpy as np
import pytest

from lambda_serving.batching import Batcher, BatchingParameters
from lambda_serving.batching.queue import Queue
from lambda_serving.dtypes import DType
from lambda_serving.errors import (
    InvalidArgument,
    Unavailable,
)
from lambda_serving.servables.servable import Servable, Signature, TensorSpec
from support.held_runs import Held, answer, busy, double, signature


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.float32(1), "Batching Run() input tensors must have at least one dimension"),
        ([0.0] * 5, "Task size 5 is larger than maximum input batch size 4"),
    ],
)
def test_request_that_no_batch_takes_is_refused(x: object, message: str) -> None:
    with busy(max_batch_size=4) as setup, pytest.raises(InvalidArgument) as refused:
        setup.submit(x)
    assert str(refused.value) == message


def test_inputs_of_unlike_sizes_are_refused() -> None:
    spec = TensorSpec(DType.FLOAT, None, "z:0")
    outputs = signature(None, None).outputs
    two = Signature("two", {"x": spec, "z": spec}, outputs, "", b"", {})
    servable = Servable({"two": two}, {"two": Held(double)}, definitions={}, close=lambda: None)
    with Batcher(BatchingParameters(num_batch_threads=1)) as batcher:
        joined = batcher.joined(servable, Path())
        with pytest.raises(InvalidArgument, match="must have equal 0th-dimension size"):
            joined.run("two", {"x": np.zeros(1), "z": np.zeros(2)})
        joined.close()


def test_full_queue_refuses_until_there_is_room() -> None:
    with busy(max_batch_size=2, max_enqueued_batches=2) as setup:
        waiting = [setup.submit([1.0]) for _ in range(4)]
        with pytest.raises(Unavailable) as refused:
            setup.submit([1.0])
        setup.function.release()
        assert [answer(each) for each in waiting] == [[2.0]] * 4
        assert answer(setup.submit([1.0])) == [2.0]
    assert str(refused.value) == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches"
        " enqueued and max_enqueued_batches is 2"
    )


def test_full_queue_refuses_what_would_be_split_into_too_many() -> None:
    with busy(
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
    with busy(max_batch_size=4, max_enqueued_batches=2) as setup:
        futures = [setup.submit(np.zeros((1, width), np.float32)) for width in range(1, 9)]
        with pytest.raises(Unavailable, match="currently 2 batches enqueued"):
            setup.submit(np.zeros((1, 9), np.float32))
        setup.function.release()
        assert [answer(each) for each in futures] == [[[0.0] * width] for width in range(1, 9)]


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

    def test_tasks_over_the_size_worth_joining_stay(self) -> None:
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
