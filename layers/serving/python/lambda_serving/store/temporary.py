"""Temporary folders and files that no signal leaves behind, whenever it comes.

Python raises what a signal brings about between any two steps, also after `tempfile` has made a
folder and before its caller can remove it. Here the name is chosen first, and what has that name
is removed in the end, whether or not it was made. Only SIGKILL leaves a folder.
"""

import atexit
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

__all__ = ["file", "folder"]


@contextmanager
def folder(prefix: str = "lambda-serving-", parent: Path | None = None) -> Iterator[Path]:
    """A new folder in `parent`, else where the system has such, only for this user.

    It is gone with all that is in it after the block. Raises OSError when it cannot be made.
    """
    path = (parent or Path(tempfile.gettempdir())) / f"{prefix}{os.urandom(8).hex()}"
    remove = partial(shutil.rmtree, path, ignore_errors=True)
    atexit.register(remove)  # for the second signal of an impatient user
    try:
        try:
            path.mkdir(mode=0o700)
            yield path
        finally:
            with _undisturbed():
                remove()
    finally:
        with _undisturbed():
            remove()  # again, as a signal may have come before the first one
            atexit.unregister(remove)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What signals bring about waits until the block is done; only the main thread sees signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for each in came[:1]:
            signal.raise_signal(each)


@contextmanager
def file() -> Iterator[IO[bytes]]:
    """A file to write and read that has no name; OSError when it cannot be made."""
    with folder() as place:  # on some file systems it does have a name for a moment
        unnamed = tempfile.TemporaryFile(dir=place)  # noqa: SIM115, TID251 - closed below
    with unnamed:
        yield unnamed
