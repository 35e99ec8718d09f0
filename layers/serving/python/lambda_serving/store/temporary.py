"""Temporary folders and files that are removed whenever a signal arrives.

A signal handler may raise between any two steps, even after `tempfile` has created a folder and
before its caller can remove it. Here the name is chosen first, and whatever has that name in the
end is removed, whether it was created or not. Only SIGKILL leaves a folder behind.
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

__all__ = ["file", "folder", "keep"]


@contextmanager
def folder(prefix: str = "lambda-serving-", parent: Path | None = None) -> Iterator[Path]:
    """A new folder for this user alone, in `parent` or the system's temporary folder.

    The block's end removes it and its content. Raises OSError if it cannot be created.
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
            remove()  # again: a signal may have arrived before the first time
            atexit.unregister(remove)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delays signals until the block ends; only the main thread receives signals."""
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
    """A file without a name to write and read. Raises OSError if it cannot be created."""
    with folder() as place:  # the file has a name for a moment on some file systems
        unnamed = tempfile.TemporaryFile(dir=place)  # noqa: SIM115, TID251 - closed below
    with unnamed:
        yield unnamed


def keep(made: Path, target: Path) -> None:
    """Renames a finished folder to `target`, unless another thread or process has put one there.

    The other one, which is as good, stays. Raises OSError if the folder cannot be renamed.
    """
    try:
        made.rename(target)
    except OSError:
        if not target.exists():
            raise
