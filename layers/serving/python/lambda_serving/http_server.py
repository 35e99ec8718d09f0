"""The REST API, and gRPC-Web beside it, on a socket."""

import asyncio
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import FrameType

import uvicorn

from lambda_serving import bodies
from lambda_serving.http_protocol import protocol
from lambda_serving.manager import Manager
from lambda_serving.rest import RestOptions, create_app
from lambda_serving.rpc import with_grpc_web
from lambda_serving.settings import Settings

__all__ = ["run"]

_log = logging.getLogger(__name__)
_FAREWELL_TICKS, _TICK_SECONDS = 20, 0.05
_ALL_BODIES = 256 * 2**20  # bytes, or so many of the largest body if that is more:
_LARGEST_BODIES = 4
_KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep idle connections, commonly 60 s


def run(manager: Manager, settings: Settings, listener: socket.socket) -> None:
    """Answers on `listener` until SIGINT or SIGTERM; then requests in flight finish.

    Nothing that hangs keeps the process alive: it ends `settings.drain_seconds` later.
    """
    with ThreadPoolExecutor(settings.rest_api_num_threads, "predict") as executor:
        rest = create_app(manager, RestOptions.of(settings), executor)
        executor.submit(getattr, rest, "pages")  # so that the first health check does not wait
        app = with_grpc_web(rest, manager, settings, executor)
        largest = _LARGEST_BODIES * settings.rest_api_max_body_bytes
        config = uvicorn.Config(
            bodies.Bounded(app, max(_ALL_BODIES, largest)),
            http=protocol(settings.client_timeout_seconds),
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        _allow_files()
        listener.listen()  # from here on clients wait instead of being refused
        host, port = listener.getsockname()[:2]
        _log.info("Exporting HTTP/REST API at: http://%s:%s", host, port)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stopped)
        _Server(config, partial(_drain, manager, settings.drain_seconds)).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Calls `stopping` as soon as a signal comes, and takes leave of its clients."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Before anything is cut off, the next answer on each connection says that it ends.

        A connection on which nothing is asked for a moment ends without.
        """
        await asyncio.sleep(0)  # who waits to be accepted is, and not reset
        for server in self.servers:
            server.close()
        state = self.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        for _ in range(_FAREWELL_TICKS):
            if state.connections:
                await asyncio.sleep(_TICK_SECONDS)
        await super().shutdown(sockets)


def _allow_files() -> None:
    """As many open files as this process may have, as each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a lower limit than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _drain(manager: Manager, seconds: int) -> None:
    _log.info("Requests in flight have %d s to finish", seconds)
    manager.drain()
    give_up = threading.Timer(seconds, _give_up, [seconds])
    give_up.daemon = True
    give_up.start()


def _give_up(seconds: int) -> None:
    _log.error("Not all has ended in --drain_seconds=%d: the rest is cut off", seconds)
    logging.shutdown()
    os._exit(1)  # what hangs in TensorFlow cannot be ended otherwise


def _stopped(_: int, __: FrameType | None) -> None:
    """Uvicorn raises the signal that stopped it again when it has; the exit code is then 0."""
