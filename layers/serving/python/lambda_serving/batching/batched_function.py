"""A function whose concurrent runs become one."""

import logging
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import Thread
from time import monotonic, perf_counter

from lambda_serving.batching import arrays, split_requests
from lambda_serving.batching.parameters import BatchingParameters
from lambda_serving.batching.queue import Batch, Task
from lambda_serving.batching.scheduler import Scheduler
from lambda_serving.batching.sizing import Sizing
from lambda_serving.dtypes import Array
from lambda_serving.errors import DeadlineExceeded
from lambda_serving.servables.cancellation import Cancellation, time_left
from lambda_serving.servables.servable import Function, Signature

__all__ = ["BatchContext", "BatchedFunction", "Report"]

_log = logging.getLogger(__name__)
_HANDOVER_SECONDS = 0.0001
"""A shorter run costs less than handing it to another thread and back."""

Outputs = list[Array]


@dataclass(frozen=True, slots=True)
class Report:
    """One run of a batch, for the metrics `/tensorflow/serving/batching_session/...`.

    `queue_seconds` and `sizes` hold the wait and the rows of each request; `size` is the rows that
    ran, padding included. After a failed run, each repeated part has its own report.
    """

    thread_pool_name: str
    queue_seconds: tuple[float, ...]
    sizes: tuple[int, ...]
    size: int

    @property
    def padding(self) -> int:
        return self.size - sum(self.sizes)


@dataclass(frozen=True, slots=True)
class BatchContext:
    """What the batched functions of all servables share."""

    scheduler: Scheduler
    clock: Callable[[], float]
    thread_pool_name: str
    report: Callable[[Report], None]
    """Called for each run, on any thread; must not raise."""


class BatchedFunction:
    """Joins the runs of `function` that wait at the same time.

    Every request gets what it would get alone. If a joined run fails, its halves are run again,
    down to the request that fails: with requests a, b, c, d, of which c fails, the runs are abcd,
    ab, cd, c, d. Once outputs lack a row for each row of the inputs, runs are no longer joined.
    """

    def __init__(
        self,
        function: Function,
        signature: Signature,
        parameters: BatchingParameters,
        context: BatchContext,
        owner: object,
    ) -> None:
        """`owner` identifies the servable, so that none takes all threads from the others."""
        self._function = function
        self._signature = signature
        self._parameters = parameters
        self._context = context
        self._joins = True
        self._lane = context.scheduler.lane(parameters, self._run, owner)
        self._sizing = None if parameters.batch_timeout_micros else Sizing(parameters)
        if self._sizing:
            self._lane.queue.most = self._sizing.limit
        self._is_cheap = False

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        return (self._is_cheap or not self._joins) and self._function.is_quick(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> Outputs:
        """As `function`; waits for the joined run."""
        future = self.submit(inputs, timeout_ms)
        return self._function(inputs, timeout_ms) if future is None else future.result()

    def submit(self, inputs: Sequence[Array], timeout_ms: int) -> Future[Outputs] | None:
        """A future of the outputs of a joined run; None if runs are not joined.

        `timeout_ms` covers waiting and running. Raises InvalidArgument, in the words of
        batching/batching_util.h, for inputs without rows, with different numbers of rows or with
        too many, and Unavailable when the queue is full.
        """
        if not self._joins:
            return None
        rows = arrays.rows(inputs)
        timeout = timeout_ms / 1000 if timeout_ms > 0 else None
        if self.is_quick(inputs) and rows <= self._parameters.batch_limit:
            return self._run_here(inputs, rows, timeout)
        kind: Hashable = arrays.kind(inputs, pad=self._parameters.pad_variable_length_inputs)
        scheduler = self._context.scheduler
        # A request without rows runs alone: there is nothing to join, and graphs may treat it
        # specially.
        tasks = scheduler.put(self._lane, inputs, kind if rows else object(), timeout)
        if len(tasks) == 1:
            return tasks[0].outputs
        start = monotonic()
        return split_requests.together(
            tasks, lambda: self._function(inputs, time_left(timeout_ms, start))
        )

    def close(self) -> None:
        """Waits until everything in the queue has run."""
        self._context.scheduler.close_lane(self._lane)

    def _run_here(
        self, inputs: Sequence[Array], rows: int, timeout: float | None
    ) -> Future[Outputs]:
        now = self._context.clock()
        deadline = None if timeout is None else now + timeout
        task = Task(list(inputs), rows, None, now, deadline)
        self._attempt([task])
        return task.outputs

    def _run(self, batch: Batch) -> None:
        if self._joins:
            self._attempt(batch.tasks)
        else:  # joining was turned off while these waited
            self._attempt_each(batch.tasks)

    def _attempt_each(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._attempt([task])

    def _attempt(self, tasks: Sequence[Task]) -> None:
        """Gives each task its outputs or its error."""
        tasks = self._in_time([task for task in tasks if not task.outputs.cancelled()])
        if not tasks:
            return
        try:
            outputs, size = self._run_joined(tasks)
        except Exception as error:  # noqa: BLE001 - passed on to the task that causes it
            self._divide(tasks, error)
            return
        sizes = [task.size for task in tasks]
        if arrays.fits(outputs, size):
            for task, part in zip(tasks, arrays.split(outputs, sizes), strict=True):
                task.give(part)
            return
        if size:
            self._stop_joining(outputs, size)
        if sizes == [size]:  # a single task without padding: these are its outputs
            tasks[0].give(outputs)
        else:
            self._attempt_each(tasks)

    def _run_joined(self, tasks: Sequence[Task]) -> tuple[Outputs, int]:
        """The outputs of all tasks, and the number of rows that ran, padding included."""
        sizes = tuple(task.size for task in tasks)
        rows = sum(sizes)
        size = self._parameters.padded(rows) if rows and self._joins else rows
        now = self._context.clock()
        waited = tuple(now - task.enqueued for task in tasks)
        self._context.report(Report(self._context.thread_pool_name, waited, sizes, size))
        inputs = arrays.join([task.inputs for task in tasks], size - rows)
        start = perf_counter()
        timeout_ms = _timeout_ms(tasks, now)
        outputs = _cancelled_with(tasks).run(partial(self._function, inputs, timeout_ms))
        took = perf_counter() - start
        self._is_cheap = took < _HANDOVER_SECONDS
        if self._sizing and size:
            self._sizing.record(size, took)
            self._lane.queue.most = self._sizing.limit
        return outputs, size

    def _divide(self, tasks: Sequence[Task], error: Exception) -> None:
        """Runs the halves again to find the task that fails; a deadline ends all of them."""
        if len(tasks) == 1 or isinstance(error, DeadlineExceeded):
            for task in tasks:
                task.fail(error)
            return
        middle = len(tasks) // 2
        self._attempt(tasks[:middle])
        self._attempt(tasks[middle:])

    def _in_time(self, tasks: Sequence[Task]) -> list[Task]:
        now = self._context.clock()
        in_time = []
        for task in tasks:
            if task.deadline is None or task.deadline > now:
                in_time.append(task)
            else:
                task.fail(
                    DeadlineExceeded("Run() timeout exceeded while waiting in batching queue")
                )
        return in_time

    def _stop_joining(self, outputs: Outputs, size: int) -> None:
        if self._joins:
            self._joins = False
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            _log.warning(
                "Requests of signature %r are no longer joined: for %d rows its outputs are %s",
                self._signature.name,
                size,
                shapes,
            )


def _cancelled_with(tasks: Sequence[Task]) -> Cancellation:
    """A cancellation that stops the run once nobody waits for any of these tasks."""
    cancellation, left = Cancellation(), count(len(tasks) - 1, -1)

    def ended(outputs: Future[Outputs]) -> None:
        if outputs.cancelled() and next(left) == 0:  # on a thread, so that no canceller waits
            Thread(target=cancellation.cancel, name="cancel", daemon=True).start()

    for task in tasks:
        task.outputs.add_done_callback(ended)
    return cancellation


def _timeout_ms(tasks: Sequence[Task], now: float) -> int:
    """Milliseconds until the last deadline; 0 (no bound) if a task has none."""
    deadlines = [task.deadline for task in tasks if task.deadline is not None]
    if len(deadlines) < len(tasks):
        return 0
    return max(int(1000 * (max(deadlines) - now)), 1)
