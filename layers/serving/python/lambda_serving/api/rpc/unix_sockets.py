"""The path of a UNIX socket, handed over from one server to the next without a gap.

gRPC removes a socket before it binds the path, so for a moment nobody listens. When it stops, it
removes whatever is there, even the socket of the server that took the path over (gRPC core,
tcp_server_posix.cc). Here it binds a path of its own, which is then renamed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lambda_serving.errors import AlreadyExists, NotFound, Unavailable

__all__ = ["Taking", "taken"]

_LONGEST = 107  # bytes of a path that can be bound (unix(7)), without the zero at its end


class Taking:
    """Moves the socket that was bound at `unbound` to `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unbound = path.with_name(f".{os.urandom(4).hex()}")
        self._ours: tuple[int, int] | None = None

    def put(self) -> None:
        """Makes clients connect to this server from now on; raises Unavailable if that fails."""
        try:
            self._ours = _identity(self.unbound)
            self.unbound.rename(self._path)
        except OSError as error:
            raise Unavailable(
                f"Could not take --grpc_socket_path {self._path}: {error.strerror}. Choose another"
                " path"
            ) from error

    def leave(self) -> None:
        """Removes the socket, unless another server has taken its place."""
        with suppress(OSError):
            self.unbound.unlink(missing_ok=True)
            if self._ours and _identity(self._path) == self._ours:
                self._path.unlink()


@contextmanager
def taken(path: Path) -> Iterator[Taking]:
    """Takes the path over inside the block, and gives it up at the end.

    Raises NotFound if its folder does not exist, AlreadyExists if there is a file that is not a
    socket, Unavailable if the path is too long.
    """
    if not path.parent.is_dir():
        raise NotFound(f"The folder of --grpc_socket_path {path} does not exist. Create it")
    if path.exists() and not path.is_socket():
        raise AlreadyExists(
            f"--grpc_socket_path {path} exists and is not a socket. Choose another path"
        )
    taking = Taking(path)
    if len(longest := max(map(os.fsencode, (path, taking.unbound)), key=len)) > _LONGEST:
        raise Unavailable(
            f"--grpc_socket_path {path} takes {len(longest)} bytes; a socket's address has room for"
            f" {_LONGEST}. Choose a shorter path"
        )
    try:
        yield taking
    finally:
        taking.leave()


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
