"""The end of a call that nobody waits for any more, told to whatever works for it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lambda_serving.errors import Cancelled

__all__ = ["Cancellation"]

_Result = TypeVar("_Result")
_thread = threading.local()


class Cancellation:
    """Of one call. `cancel` may come from any thread, at any time, any number of times."""

    def __init__(self) -> None:
        self.cancelled = False
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None

    @staticmethod
    def current() -> "Cancellation | None":
        """That of the call which this thread is at work for, if it can be cancelled."""
        found: Cancellation | None = getattr(_thread, "current", None)
        return found

    def run(self, work: Callable[[], _Result]) -> _Result:
        """What `work` returns, with this as the current one of the thread."""
        _thread.current = self
        try:
            return work()
        finally:
            _thread.current = None

    def cancel(self) -> None:
        """Stops what is at work; what would begin later does not begin."""
        with self._lock:
            self.cancelled = True
            if self._stop:
                self._stop()

    @property
    def is_at_work(self) -> bool:
        """Whether there is something now that `cancel` would stop."""
        return self._stop is not None

    @contextmanager
    def stopped_by(self, stop: Callable[[], None]) -> Iterator[None]:
        """Inside the block `cancel` calls `stop`, after it no more.

        Raises Cancelled when it is too late to begin.
        """
        with self._lock:
            if self.cancelled:
                raise Cancelled("The call was cancelled")
            self._stop = stop
        try:
            yield
        finally:
            with self._lock:
                self._stop = None
