"""Sockets for the server's ports, bound before models load: a busy port is reported early."""

import socket

from lambda_serving.config.server_flags import Settings
from lambda_serving.errors import Unavailable

__all__ = ["another", "grpc_listener", "rest_listener", "sharing"]


def rest_listener(settings: Settings) -> socket.socket:
    """A bound socket for the REST API; raises Unavailable if its port cannot be bound."""
    advice = "--rest_api_port, or use 0 for any free port"
    return _bound(settings.rest_api_host, settings.rest_api_port, advice)


def grpc_listener(settings: Settings) -> socket.socket:
    """The same for gRPC."""
    return _bound(settings.grpc_host, settings.port, "--port, or use 0 to turn gRPC off")


def sharing(listener: socket.socket) -> socket.socket:
    """The socket, after which other sockets of this user can bind the same port."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return listener


def another(listener: socket.socket) -> socket.socket:
    """One more socket on the port of a `sharing` one."""
    made = sharing(socket.socket(listener.family))
    made.bind(listener.getsockname())
    return made


def _bound(host: str, port: int, advice: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Could not listen on {host}:{port} ({error}). Choose another port with {advice}"
        ) from error
    return listener
