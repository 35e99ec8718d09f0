"""How a server ends: what signals do from its first moment on, and what an end leaves behind."""

import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

__all__ = ["ShutdownSignals", "downloads_prefix", "remove_downloads", "shutdown_signals"]


def shutdown_signals() -> list[signal.Signals]:
    """The signals that ask for an end: Ctrl-C, an orchestrator's, a closing terminal's.

    SIGHUP is left out if it is ignored, as `nohup` makes it.
    """
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


class ShutdownSignals:
    """Handles the signals: they call `end` while models load, and make the server drain later.

    A signal between the two is kept until the server can drain. By default Python would die of
    SIGTERM silently, ignore it as a container's first process, and handle SIGINT only after the
    load.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._drain: Callable[[], None] | None = None
        self._received = False
        self._is_loading = True
        for number in shutdown_signals():
            signal.signal(number, self._receive)

    def loaded(self) -> None:
        """Keeps signals from now on: models must be closed before the process may end."""
        self._is_loading = False

    def drain_by(self, drain: Callable[[], None]) -> None:
        """Calls `drain` at each signal from now on, and at once if one was received before."""
        self._drain = drain
        if self._received:
            drain()

    def _receive(self, _: int, __: FrameType | None) -> None:
        self._received = True
        if self._drain:
            self._drain()
        elif self._is_loading:
            self._end()


def downloads_prefix(process: int) -> str:
    """How the names of that process's temporary folders for files from buckets begin."""
    return f"lambda-serving-{process}-"


def remove_downloads(process: int) -> None:
    """Removes those folders of a process that ended before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{downloads_prefix(process)}*"):
        shutil.rmtree(folder, ignore_errors=True)
