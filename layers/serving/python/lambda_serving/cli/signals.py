"""How signals end a command."""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from lambda_serving.server.shutdown import shutdown_signals

__all__ = ["end_by_signals"]

_SOON_SECONDS = 0.01


def end_by_signals() -> None:
    """Ctrl-C, SIGTERM and SIGHUP end a command by 128 plus their number, as a shell does.

    Nothing half-made is left. A command in the background of a script ignores Ctrl-C and goes on.
    """
    for number in shutdown_signals():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    sys.unraisablehook = _trying_again(sys.unraisablehook)


def _trying_again(report: Callable[[Any], object]) -> Callable[[Any], None]:
    """Python ignores an exit in a callback, such as its garbage collector's: then exits soon after.

    `report` gets every other exception that Python ignores.
    """

    def ignored(unraisable: Any) -> None:
        left = unraisable.exc_value
        if not isinstance(left, SystemExit) or threading.current_thread().name != "MainThread":
            report(unraisable)
            return
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(left.code))
        signal.setitimer(signal.ITIMER_REAL, _SOON_SECONDS)

    return ignored
