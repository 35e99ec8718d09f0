"""Requests that wait, as batches; without threads or a clock: the caller passes times.

Source: TensorFlow's batching_util/shared_batch_scheduler.h, `internal::Queue`.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from lambda_serving.batching.arrays import split
from lambda_serving.batching.parameters import BatchingParameters
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument, Unavailable

__all__ = ["Batch", "Queue", "Task"]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A waiting request, or a part of one; times are seconds of the scheduler's clock.

    Tasks of equal `kind` can be joined. `deadline` is None for no bound.
    """

    inputs: list[Array]
    size: int
    kind: Hashable
    enqueued: float
    deadline: float | None = None
    outputs: Future[list[Array]] = field(default_factory=Future, init=False)
    """May be cancelled until it has a result."""

    def give(self, outputs: list[Array]) -> None:
        if self.outputs.set_running_or_notify_cancel():
            self.outputs.set_result(outputs)

    def fail(self, error: Exception) -> None:
        if self.outputs.set_running_or_notify_cancel():
            self.outputs.set_exception(error)


class Batch:
    """Tasks of one kind, in the order they came."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self.tasks)

    @property
    def since(self) -> float:
        return self.tasks[0].enqueued

    @property
    def kind(self) -> Hashable:
        return self.tasks[0].kind

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        self.size += task.size

    def fail(self, error: BaseException) -> None:
        """Fails each task that has no outputs yet."""
        for task in self.tasks:
            if not task.outputs.done():
                task.outputs.set_exception(error)

    def cut(self, most: int) -> "Batch":
        """Removes and returns the tasks beyond `most` rows, but never the first task."""
        rest = Batch()
        while self.size > most and len(self.tasks) > 1:
            task = self.tasks.pop()
            self.size -= task.size
            rest.add(task)
        rest.tasks.reverse()
        return rest


class Queue:
    """The batches of one signature: closed ones, and an open one for each kind of tasks.

    A task joins the open batch of its kind, which is closed when it is full or the next task does
    not fit. TensorFlow has no kinds: with a single kind, this behaves as TensorFlow does.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self.most = parameters.batch_limit
        """The most rows to run at once, if smaller than a batch."""
        self._parameters = parameters
        self._limit = parameters.batch_limit
        self._most = max(parameters.max_enqueued_batches, 1)  # the open batch always exists
        self._wait = parameters.batch_timeout_micros / 1e6
        self._closed: deque[Batch] = deque()
        self._open: dict[Hashable, Batch] = {}  # the oldest first
        self._hurried = False

    def __bool__(self) -> bool:
        return bool(self._closed or self._open)

    def put(
        self, inputs: Sequence[Array], kind: Hashable, now: float, deadline: float | None
    ) -> list[Task]:
        """Enqueues a request; returns its task, or several if it is split because of its size.

        Raises InvalidArgument when it has too many rows, Unavailable when the queue is full.
        """
        size = len(inputs[0])
        self._check(size, kind)
        sizes = list(self._shares(size, kind))
        parts = [list(inputs)] if len(sizes) == 1 else split(inputs, sizes)
        tasks = [
            Task(part, share, kind, now, deadline) for part, share in zip(parts, sizes, strict=True)
        ]
        for task in tasks:
            self._add(task)
        return tasks

    def take(self, now: float) -> Batch | None:
        """The batch to run now: the older of the first closed one and an overdue open one."""
        waiting = next(iter(self._open.values()), None)
        is_due = waiting and (self._hurried or waiting.since + self._wait <= now)
        if waiting and is_due and not (self._closed and self._closed[0].since <= waiting.since):
            del self._open[waiting.kind]
            if rest := waiting.cut(self.most):
                self._open = {rest.kind: rest, **self._open}
            return waiting
        if not self._closed:
            return None
        batch = self._closed.popleft()
        if rest := batch.cut(self.most):
            self._closed.appendleft(rest)
        return batch

    def due(self) -> float | None:
        """When the next batch is due, None when nothing waits."""
        if self._closed or (self._open and self._hurried):
            return 0
        return next((batch.since + self._wait for batch in self._open.values()), None)

    def hurry(self) -> None:
        """Makes every batch due at once, from now on."""
        self._hurried = True

    def _add(self, task: Task) -> None:
        if task.size > self._room(task.kind) and task.kind in self._open:
            self._closed.append(self._open.pop(task.kind))
        batch = self._open.setdefault(task.kind, Batch())
        batch.add(task)
        if batch.size >= self._limit:
            self._closed.append(self._open.pop(task.kind))

    def _room(self, kind: Hashable) -> int:
        """The rows that still fit into the open batch of this kind, 0 if there is none."""
        return self._limit - self._open[kind].size if kind in self._open else 0

    def _shares(self, size: int, kind: Hashable) -> Iterator[int]:
        """The rows of each part of a request: what fits the open batch, then whole batches."""
        room = self._room(kind) or self._limit
        if not self._parameters.enable_large_batch_splitting or size <= room:
            yield size
            return
        yield room
        for left in range(size - room, 0, -self._limit):
            yield min(left, self._limit)

    def _check(self, size: int, kind: Hashable) -> None:
        largest = self._parameters.max_batch_size
        if size > largest:
            raise InvalidArgument(
                f"Task size {size} is larger than maximum input batch size {largest}"
            )
        enqueued, room = self._enqueued(kind), self._room(kind)
        capacity = max(self._most - enqueued, 0) * self._limit + room
        if size <= capacity and (size <= room or enqueued < self._most):
            return
        if self._parameters.enable_large_batch_splitting:
            raise _full(
                f"task size is {size} but scheduling capacity is only {capacity}"
                f" (num_enqueued_batches={enqueued}, max_enqueued_batches={self._most},"
                f" max_execution_batch_size={self._limit})"
            )
        raise _full(
            f"currently {enqueued} batches enqueued and max_enqueued_batches is {self._most}"
        )

    def _enqueued(self, kind: Hashable) -> int:
        """The batches ahead of a task of this kind; other kinds' open ones count by their rows."""
        rows = sum(batch.size for batch in self._open.values())
        return len(self._closed) + rows // self._limit + (kind in self._open)


def _full(why: str) -> Unavailable:
    return Unavailable(
        f"The batch scheduling queue to which this task was submitted is full; {why}"
    )
