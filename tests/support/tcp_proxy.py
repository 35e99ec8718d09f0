"""A TCP proxy that breaks connections, as networks do."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

__all__ = ["Proxy", "running"]

_CHUNK = 2**16


class Proxy:
    """A connection ends once `is_cut` of the bytes that it has sent; `cuts` counts those."""

    def __init__(self) -> None:
        self.address = ""
        self.is_cut: Callable[[int], bool] = lambda _: False
        self.cuts = 0

    def send(self, source: socket.socket, target: socket.socket) -> None:
        """Passes on what a client sends."""
        sent = 0
        while chunk := _received(source):
            sent += len(chunk)
            if self.is_cut(sent):
                self.cuts += 1
                return
            target.sendall(chunk)


@contextmanager
def running(target: str) -> Iterator[Proxy]:
    """A proxy before `HOST:PORT`, with all of its connections ended after the block."""
    proxy, host, port = Proxy(), *target.split(":")
    ends = set[socket.socket]()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            with socket.create_connection((host, int(port))) as server:
                pair = {client, server}
                ends.update(pair)
                back = Thread(target=_pass_back, args=(server, client))
                back.start()
                with suppress(OSError):
                    proxy.send(client, server)
                _hang_up(pair)
                back.join()
                ends.difference_update(pair)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        proxy.address = "{}:{}".format(*server.server_address)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
            _hang_up(set(ends))


def _pass_back(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while chunk := _received(server):
            client.sendall(chunk)
    _hang_up({client, server})


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(_CHUNK)
    except OSError:
        return b""


def _hang_up(ends: set[socket.socket]) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
