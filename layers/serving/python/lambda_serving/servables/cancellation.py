"""Ends the work for a call: nobody waits for it any more, or its time is up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from lambda_serving.errors import Cancelled

__all__ = ["Cancellation", "time_left"]

_Result = TypeVar("_Result")
_thread = threading.local()


def time_left(timeout_ms: int, since: float) -> int:
    """The milliseconds left of a timeout that began at `since` (`time.monotonic`), at least 1.

    0, no bound, stays 0.
    """
    return timeout_ms and max(1, timeout_ms - round(1000 * (monotonic() - since)))


class Cancellation:
    """Cancels one call. `cancel` may be called on any thread, at any time, repeatedly."""

    def __init__(self) -> None:
        self.cancelled = False
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None

    @staticmethod
    def current() -> "Cancellation | None":
        """The cancellation of the call that this thread works for, if there is one."""
        found: Cancellation | None = getattr(_thread, "current", None)
        return found

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Calls `work` with this as the thread's current cancellation; returns its result."""
        _thread.current = self
        try:
            return work()
        finally:
            _thread.current = None

    def cancel(self) -> None:
        """Stops the current work, and prevents further work from starting."""
        with self._lock:
            self.cancelled = True
            if self._stop:
                self._stop()

    @property
    def is_at_work(self) -> bool:
        """Whether there is work now that `cancel` would stop."""
        return self._stop is not None

    @contextmanager
    def stopped_by(self, stop: Callable[[], None]) -> Iterator[None]:
        """Makes `cancel` call `stop` during the block; raises Cancelled if already cancelled."""
        with self._lock:
            if self.cancelled:
                raise Cancelled("The call was cancelled")
            self._stop = stop
        try:
            yield
        finally:
            with self._lock:
                self._stop = None
