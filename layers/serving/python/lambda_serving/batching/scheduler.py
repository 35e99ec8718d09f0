"""The threads that run batches, shared by all signatures of all servables.

Source: TensorFlow's batching_util/shared_batch_scheduler.h. A free thread goes through the queues
in turn and runs the first batch that is full or due; if there is none, it waits.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence

from lambda_serving.batching.parameters import BatchingParameters
from lambda_serving.batching.queue import Batch, Queue, Task
from lambda_serving.core.threads import start
from lambda_serving.dtypes import Array
from lambda_serving.errors import FailedPrecondition

__all__ = ["Lane", "Scheduler"]

_LONG_SECONDS = 1.0
_SPARE = 4


class Lane:
    """A queue and the function that runs its batches; made by `Scheduler.lane`."""

    def __init__(self, queue: Queue, run: Callable[[Batch], None], owner: object) -> None:
        self.queue = queue
        self.run = run
        self.owner = owner
        self.running = 0
        self.closed = False

    @property
    def idle(self) -> bool:
        return not self.queue and not self.running


class Scheduler:
    """Runs up to `threads` batches at a time; `clock` returns seconds.

    A batch no longer counts once it has run for a second, so that endless runs do not block others.
    Still, one owner of lanes never runs more than `threads` batches, and all owners together never
    more than four times as many. An exception from a lane fails the tasks of its batch.
    """

    def __init__(self, threads: int, name: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes: deque[Lane] = deque()
        self._closed = False
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._idle = threading.Condition(lock)
        self._most = threads
        self._running: list[tuple[object, float]] = []  # the owner, and the start
        self._threads = [
            start(f"{name}_{i}", self._step, daemon=True) for i in range(_SPARE * threads)
        ]

    def lane(
        self, parameters: BatchingParameters, run: Callable[[Batch], None], owner: object = None
    ) -> Lane:
        """A new queue; its batches are passed to `run`, on any of the threads."""
        lane = Lane(Queue(parameters), run, owner)
        with self._work:
            self._lanes.append(lane)
        return lane

    def put(
        self, lane: Lane, inputs: Sequence[Array], kind: Hashable, timeout: float | None
    ) -> list[Task]:
        """As `Queue.put`, with `timeout` in seconds; raises FailedPrecondition when closed."""
        with self._work:
            if lane.closed:
                raise FailedPrecondition("Session has been closed.")
            now = self._clock()
            before = lane.queue.due()
            tasks = lane.queue.put(inputs, kind, now, None if timeout is None else now + timeout)
            due = lane.queue.due() or 0
            if due <= now:
                self._work.notify(len(tasks))
            elif due != before:  # waiting threads recompute how long to wait
                self._work.notify_all()
        return tasks

    def close_lane(self, lane: Lane) -> None:
        """Accepts no more requests, and waits until everything in the queue has run."""
        with self._work:
            lane.closed = True
            lane.queue.hurry()
            self._work.notify_all()
            self._idle.wait_for(lambda: lane.idle)
            if lane in self._lanes:
                self._lanes.remove(lane)

    def close(self) -> None:
        """Ends the threads; the lanes must be closed first."""
        with self._work:
            self._closed = True
            self._work.notify_all()
        for thread in self._threads:
            thread.join()

    def _step(self) -> bool:
        """Waits for a batch and runs it; returns False when closed."""
        if not (found := self._next()):
            return False
        lane, batch, running = found
        try:
            lane.run(batch)
        except BaseException as error:
            batch.fail(error)
            raise
        finally:
            with self._work:
                lane.running -= 1
                self._running.remove(running)
                if lane.closed:
                    self._idle.notify_all()
        return True

    def _next(self) -> tuple[Lane, Batch, tuple[object, float]] | None:
        """Waits for the next batch; returns its lane, it, and its entry in `_running`.

        None when closed.
        """
        with self._work:
            while not self._closed:
                now = self._clock()
                young = [since for _, since in self._running if since > now - _LONG_SECONDS]
                if len(young) >= self._most:
                    self._work.wait(min(young) + _LONG_SECONDS - now)
                    continue
                lanes = [lane for lane in self._lanes if self._may_run(lane.owner)]
                for lane in lanes:
                    if batch := lane.queue.take(now):
                        self._lanes.remove(lane)
                        self._lanes.append(lane)  # at the end, so that lanes take turns
                        lane.running += 1
                        self._running.append((lane.owner, now))
                        return lane, batch, self._running[-1]
                dues = [due for lane in lanes if (due := lane.queue.due()) is not None]
                self._work.wait(min(dues) - now if dues else None)
        return None

    def _may_run(self, owner: object) -> bool:
        return sum(each is owner for each, _ in self._running) < self._most
