"""What signals do to a server, from startup to its end."""

import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["ShutdownSignals", "shutdown_signals"]


def shutdown_signals() -> list[signal.Signals]:
    """The signals that end a server: Ctrl-C, an orchestrator's, a closing terminal's.

    Without SIGHUP if that is ignored, as under `nohup`.
    """
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


class ShutdownSignals:
    """Handles the signals: they call `end` while models load, and later make the server drain.

    A signal between the two waits until the server can drain. By default, SIGTERM would kill Python
    silently, or be ignored in a container's first process, and SIGINT would wait for the load.
    `received` is the number of the first one, 0 before it; `end` is called with it.
    """

    def __init__(self, end: Callable[[int], None]) -> None:
        self.received = 0
        self._end = end
        self._drain: Callable[[], None] | None = None
        self._is_loading = True
        for number in shutdown_signals():
            signal.signal(number, self._receive)

    def loaded(self) -> None:
        """Delays signals from now on: models must be closed before the process may end."""
        self._is_loading = False

    def drain_by(self, drain: Callable[[], None]) -> None:
        """Calls `drain` at each signal from now on, and at once if one was received before."""
        self._drain = drain
        if self.received:
            drain()

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or number
        if self._drain:
            self._drain()
        elif self._is_loading:
            self._end(number)
