"""What signals that ask for an end do from the beginning of a server on."""

import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["Stopping", "shutdown_signals"]


def shutdown_signals() -> list[signal.Signals]:
    """The signals that ask for an end: of Ctrl-C, of an orchestrator, of a terminal that closes.

    SIGHUP is not among them where it is ignored, as `nohup` has it.
    """
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


class Stopping:
    """While models load a signal ends the process by `end`, later it makes the server drain.

    A signal that comes between the two is kept until there is something to drain. Python alone
    would die of it without a word, and as the first process of a container not even that; and
    SIGINT would wait for the load.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._drain: Callable[[], None] | None = None
        self._asked = False
        self._is_loading = True
        for number in shutdown_signals():
            signal.signal(number, self._come)

    def loaded(self) -> None:
        """Says that there is something to give back before the process may end."""
        self._is_loading = False

    def drain_by(self, drain: Callable[[], None]) -> None:
        """`drain` is called with each signal from now on, and at once if one has come already."""
        self._drain = drain
        if self._asked:
            drain()

    def _come(self, _: int, __: FrameType | None) -> None:
        self._asked = True
        if self._drain:
            self._drain()
        elif self._is_loading:
            self._end()
