"""Sealed memory that several processes share, found by name among their open files.

All processes inherit one file, the register. Each of its lines names shared memory and the path
below /proc where a process has it open. The register's lock lets one process create what the others
then find. Nobody owns shared memory: the kernel frees it when the last process closes it or ends.
"""

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Shared", "new_memory", "seal"]

_PAUSE_SECONDS = 0.01
_PREFIX = "lambda-serving-"  # before 32 characters of a digest
_SEALS = 0
if sys.platform == "linux":
    _SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def new_memory(name: str, size: int = 0) -> int:
    """A descriptor of memory outside any file system, so that /dev/shm does not limit it.

    Raises OSError when there is no memory, or the system has no such kind: only Linux does.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    descriptor = os.memfd_create(_PREFIX + name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)  # fails here, instead of with a signal later
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def seal(descriptor: int) -> None:
    """Makes memory immutable for everyone; raises OSError while it is mapped writable."""
    if sys.platform == "linux":
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


@dataclass(frozen=True, slots=True)
class Shared:
    """The memory shared by the processes that inherit `register`, a descriptor of `new_memory`.

    They wait at most `seconds` for one another: the process that reads may have been stopped.
    """

    register: int
    seconds: float = 300

    @contextmanager
    def locked(self) -> Iterator["Found"]:
        """Locks the register during the block; raises OSError, or TimeoutError."""
        own = os.open(f"/proc/self/fd/{self.register}", os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock(own, self.seconds)
            yield Found(own)
        finally:
            os.close(own)


@dataclass(frozen=True, slots=True)
class Found:
    """The register while it is locked."""

    list_file: int

    def open(self, name: str) -> int | None:
        """A descriptor of the sealed memory that another load shares as `name`, if there is any."""
        for each, path in self._known():
            if each == name and (descriptor := _opened(path, name)) is not None:
                return descriptor
        return None

    def add(self, name: str, descriptor: int) -> None:
        """Lets others open the memory while this process has it open."""
        here = (name, f"/proc/{Path('/proc/self').readlink()}/fd/{descriptor}")
        known = {each for each in self._known() if os.path.lexists(each[1])}
        lines = [f"{each} {path}\n" for each, path in sorted(known | {here})]
        os.ftruncate(self.list_file, 0)
        os.pwrite(self.list_file, "".join(lines).encode(), 0)

    def _known(self) -> list[tuple[str, str]]:
        """Each name and path; the last may be cut short if its writer died."""
        content = os.pread(self.list_file, os.fstat(self.list_file).st_size, 0).decode()
        parts = (line.partition(" ") for line in content.splitlines())
        return [(name, path) for name, _, path in parts]


def _opened(path: str, name: str) -> int | None:
    """Opens the memory; None if it has been closed, or the path is another file by now."""
    if sys.platform != "linux":
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with suppress(OSError):  # a file that cannot have seals
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
