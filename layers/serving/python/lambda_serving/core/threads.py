"""Threads that must survive exceptions: each is logged, and the thread goes on."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

__all__ = ["start", "submit"]

_log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 1.0


def start(name: str, step: Callable[[], bool], *, daemon: bool = False) -> threading.Thread:
    """A thread that calls `step` until it returns False.

    An exception is logged with its traceback, repeats of it are not, and `step` is called again
    after a pause, which grows up to a second while every call raises.
    """
    thread = threading.Thread(target=_run, args=(name, step), name=name, daemon=daemon)
    thread.start()
    return thread


def submit(pool: Executor, work: Callable[[], object]) -> None:
    """Runs `work` on a thread of `pool`; its result is dropped, its exception is logged."""
    pool.submit(work).add_done_callback(_tell)


def _run(name: str, step: Callable[[], bool]) -> None:
    pause, said, goes_on = _FIRST_PAUSE_SECONDS, "", True
    while goes_on:
        try:
            goes_on = step()
        except Exception as error:  # noqa: BLE001 - the server needs this thread, whatever happens
            if repr(error) != said:
                _log.exception("Thread %s goes on after an unexpected error", name)
            said = repr(error)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        else:
            pause, said = _FIRST_PAUSE_SECONDS, ""


def _tell(done: Future[object]) -> None:
    if not done.cancelled() and (error := done.exception()):
        _log.error("Unexpected error in a thread", exc_info=error)
