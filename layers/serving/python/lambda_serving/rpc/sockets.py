"""The path of a UNIX socket, before it is listened on."""

import socket
from contextlib import closing
from pathlib import Path

from lambda_serving.errors import AlreadyExists, NotFound

__all__ = ["check_path"]

_SECONDS = 1


def check_path(path: Path) -> None:
    """Returns if the path is free, or has the socket of a process that was killed.

    gRPC takes any socket over, also one that is in use. Raises NotFound without a folder for it,
    AlreadyExists when something else is there or someone listens on it.
    """
    if not path.parent.is_dir():
        raise NotFound(f"The folder of --grpc_socket_path {path} is not there. Make it")
    if path.exists() and not path.is_socket():
        raise AlreadyExists(
            f"--grpc_socket_path {path} is there already and is no socket. Choose another path"
        )
    if _is_listened_on(path):
        raise AlreadyExists(
            f"Another process listens on --grpc_socket_path {path}. End it, or choose another path"
        )


def _is_listened_on(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(_SECONDS)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True
