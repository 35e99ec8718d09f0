"""Answers before Lambda's time is up, whatever the graph does.

Lambda kills the process of a function that is late, and the next request waits for a new process to
load the model. So a run may take the remaining time, minus a margin for an answer that says it took
too long. A run that does not end even then, for instance in one long operation, is abandoned: its
worker thread goes on, and the next request gets a new one.
"""

import asyncio
from collections.abc import Callable
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from mangum.types import LambdaContext

from lambda_serving.errors import DeadlineExceeded
from lambda_serving.servables.cancellation import Cancellation

__all__ = ["InTime", "answer_seconds", "run_ms"]

_Result = TypeVar("_Result")
_MOST_MARGIN_MS, _LEAST_MARGIN_MS, _SHARE = 2000, 200, 10
_LONGEST_MS = 24 * 3600 * 1000  # more than Lambda ever gives; a test's context may say more


def run_ms(context: LambdaContext | None) -> int:
    """The milliseconds that a run may take, at least 1; 0, for no limit, without a context."""
    left = _left_ms(context)
    return 0 if left is None else max(1, left - _margin_ms(left))


def answer_seconds(context: LambdaContext | None) -> float | None:
    """The seconds until the answer is due; half of a run's margin is for writing it."""
    left = _left_ms(context)
    return None if left is None else max(1, left - _margin_ms(left) // 2) / 1000


def _left_ms(context: LambdaContext | None) -> int | None:
    clock = getattr(context, "get_remaining_time_in_millis", None)
    left = clock() if callable(clock) else None
    return None if left is None else int(min(left, _LONGEST_MS))


def _margin_ms(left: int) -> int:
    return min(_MOST_MARGIN_MS, max(_LEAST_MARGIN_MS, left // _SHARE))


_Done = SimpleQueue[tuple[Any, BaseException | None]]
_Asked = tuple[Callable[[], Any], _Done]
"""Work, and a queue for its outcome."""


class _Worker:
    """A thread that does one piece of work after another, with an event loop for Mangum."""

    def __init__(self) -> None:
        self.asked = SimpleQueue[_Asked | None]()
        Thread(target=self._work, name="function", daemon=True).start()

    def _work(self) -> None:
        with closing(asyncio.new_event_loop()) as loop:
            asyncio.set_event_loop(loop)
            while (asked := self.asked.get()) is not None:
                work, done = asked
                try:
                    done.put((work(), None))
                except BaseException as error:  # noqa: BLE001 - raised to whoever asked
                    done.put((None, error))
                del asked, work, done  # may refer to who asks, who would then never end


class InTime:
    """Does work in a thread, which ends with this object, and waits for it for a limited time."""

    def __init__(self) -> None:
        self._worker = _Worker()

    def __call__(self, work: Callable[[], _Result], seconds: float | None) -> _Result:
        """What `work` returns or raises.

        Raises DeadlineExceeded if it has not ended in time. It is then cancelled, and the next work
        does not wait for it, even if it cannot be stopped.
        """
        result: _Result
        worker, cancellation, done = self._worker, Cancellation(), _Done()
        worker.asked.put((lambda: cancellation.run(work), done))
        try:
            result, error = done.get(timeout=seconds)
        except Empty:
            worker.asked.put(None)
            self._worker = _Worker()
            Thread(target=cancellation.cancel, daemon=True).start()  # this may also block
            raise DeadlineExceeded("The time is up, and the run cannot be stopped") from None
        if error is not None:
            raise error
        return result

    def __del__(self) -> None:
        self._worker.asked.put(None)
