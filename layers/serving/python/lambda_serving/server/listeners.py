"""Sockets of the server's ports, taken before anything is loaded, so that a busy port is told."""

import socket

from lambda_serving.config.settings import Settings
from lambda_serving.errors import Unavailable

__all__ = ["grpc_listener", "rest_listener"]


def rest_listener(settings: Settings) -> socket.socket:
    """A bound socket for the REST API; raises Unavailable when its port cannot be taken."""
    advice = "--rest_api_port, 0 for any free one"
    return _bound(settings.rest_api_host, settings.rest_api_port, advice)


def grpc_listener(settings: Settings) -> socket.socket:
    """The same for gRPC."""
    return _bound(settings.grpc_host, settings.port, "--port, 0 for no gRPC")


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
