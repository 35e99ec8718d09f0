"""Sealed memory that several processes share, found by its name among what they have open.

One file, which all of them inherited, says who has what open: a line for each, the name and the
path below /proc. Its lock lets one process make what others then find. Nobody owns what is shared:
the kernel gives it back when the last process has closed it, or has ended.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Shared", "new_memory", "seal"]

_PAUSE_SECONDS = 0.01
_PREFIX = "lambda-serving-"  # before 32 characters of a digest
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def new_memory(name: str, size: int = 0) -> int:
    """A descriptor of memory without a place in any file system; /dev/shm does not matter to it.

    Raises OSError when there is no memory, or none of this kind.
    """
    descriptor = os.memfd_create(_PREFIX + name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)  # an error here, and no signal later
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def seal(descriptor: int) -> None:
    """Nobody can write, grow or shrink it from now on; OSError while it is mapped writable."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the processes that have inherited `register`, a descriptor of `new_memory`, share.

    They wait `seconds` for one another: who reads for others may have been stopped.
    """

    register: int
    seconds: float = 300

    @contextmanager
    def locked(self) -> Iterator["Found"]:
        """What there is, while no other load changes it; raises OSError, or TimeoutError."""
        own = os.open(f"/proc/self/fd/{self.register}", os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock(own, self.seconds)
            yield Found(own)
        finally:
            os.close(own)


@dataclass(frozen=True, slots=True)
class Found:
    """The list, as long as it is locked."""

    list_file: int

    def open(self, name: str) -> int | None:
        """A descriptor of sealed memory of that name that another load has shared, None if gone."""
        for each, path in self._known():
            if each == name and (descriptor := _opened(path, name)) is not None:
                return descriptor
        return None

    def add(self, name: str, descriptor: int) -> None:
        """Lets others open it as long as this process has it open."""
        here = (name, f"/proc/{Path('/proc/self').readlink()}/fd/{descriptor}")
        known = {each for each in self._known() if os.path.lexists(each[1])}
        lines = [f"{each} {path}\n" for each, path in sorted(known | {here})]
        os.ftruncate(self.list_file, 0)
        os.pwrite(self.list_file, "".join(lines).encode(), 0)

    def _known(self) -> list[tuple[str, str]]:
        """Each name and path; the last may be cut short, by the end of who wrote it."""
        content = os.pread(self.list_file, os.fstat(self.list_file).st_size, 0).decode()
        parts = (line.partition(" ") for line in content.splitlines())
        return [(name, path) for name, _, path in parts]


def _opened(path: str, name: str) -> int | None:
    """None for a file that has been closed since, or is another one by now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with suppress(OSError):  # what has no seals
        link = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        if link == f"/memfd:{_PREFIX}{name} (deleted)" and seals & _SEALS == _SEALS:
            return descriptor
    os.close(descriptor)
    return None


def _lock(descriptor: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another load has taken more than {seconds} s") from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return
