"""The REST API, and gRPC-Web beside it, on a socket."""

import asyncio
import logging
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Protocol

import uvicorn

from lambda_serving.api.http import Bounded
from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import create_app
from lambda_serving.api.rpc import with_grpc_web
from lambda_serving.config.settings import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.server.http_protocol import protocol
from lambda_serving.server.shutdown import Stopping
from lambda_serving.server.telemetry import Observed

__all__ = ["Host", "Server", "run"]

_log = logging.getLogger(__name__)
_FAREWELL_TICKS, _TICK_SECONDS = 20, 0.05
_ALL_BODIES = 256 * 2**20  # bytes, or so many of the largest body if that is more:
_LARGEST_BODIES = 4
_KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep idle connections, commonly 60 s


class Host(Protocol):
    """Whom it concerns that a server's doors are open."""

    def opened(self, server: "Server") -> None:
        """Connections are accepted."""
        ...

    def closing(self) -> None:
        """They soon will be no more."""
        ...


def run(
    manager: Manager,
    settings: Settings,
    listener: socket.socket,
    observed: Observed,
    stopping: Stopping,
    host: Host,
) -> None:
    """Answers on `listener` until SIGINT, SIGTERM or SIGHUP; then requests in flight finish.

    `observed` is told of all calls, and may have a page. Nothing that hangs keeps the process
    alive: it ends `settings.drain_seconds` later.
    """
    with (
        Threads(settings.rest_api_num_threads, "predict") as threads,
        ThreadPoolExecutor(1, "pages") as first,
    ):
        manager.watch(threads)
        rest = create_app(manager, settings, threads, observed.observers)
        first.submit(getattr, rest, "pages")  # so that the first health check does not wait
        both = with_grpc_web(rest, manager, settings, threads, observed.observers)
        largest = _LARGEST_BODIES * settings.rest_api_max_body_bytes
        config = uvicorn.Config(
            Bounded(observed.with_page(both), max(_ALL_BODIES, largest)),
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
        server = Server(config, partial(_drain, manager, settings.drain_seconds), host)
        stopping.drain_by(server.stop)
        server.run(sockets=[listener])


class Server(uvicorn.Server):
    """Calls `stopping` as soon as a signal comes, and takes leave of its clients."""

    def __init__(
        self,
        config: uvicorn.Config,
        stopping: Callable[[], None],
        host: Host,
    ) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._host = host
        self._loop: asyncio.AbstractEventLoop

    def stop(self) -> None:
        """Makes `run` end, as a signal does, also one that comes before it has begun."""
        self.handle_exit(signal.SIGTERM, None)

    def accept_from(self, listeners: Sequence[socket.socket]) -> None:
        """Accepts connections from these, too, in place of those named before.

        Other threads may call this; the sockets stay the caller's.
        """
        asyncio.run_coroutine_threadsafe(self._accept_from(listeners), self._loop)

    def soon(self, call: Callable[[], None]) -> None:
        """Has the loop call this as soon as it gets to it, if it still runs."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(call)

    async def _accept_from(self, listeners: Sequence[socket.socket]) -> None:
        if self.should_exit:
            return
        own, *others = self.servers
        for server in others:
            server.close()
        await super().startup([listener.dup() for listener in listeners])
        self.servers.insert(0, own)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._stopping()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._host.opened(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Before anything is cut off, the next answer on each connection says that it ends.

        A connection on which nothing is asked for a moment ends without.
        """
        self._host.closing()
        await self._accept_waiting()
        for server in self.servers:
            server.close()
        state = self.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        for _ in range(_FAREWELL_TICKS):
            if state.connections:
                await asyncio.sleep(_TICK_SECONDS)
        await super().shutdown(sockets)

    async def _accept_waiting(self) -> None:
        """Accepts who has connected already: closing the socket would reset these clients.

        The loop accepts some in each of its rounds. Who connects within the microseconds between
        the last look and the closing is reset: no system call closes only an empty queue.
        """
        waiting = select.poll()
        for server in self.servers:
            for listener in server.sockets:
                waiting.register(listener, select.POLLIN)
        for _ in range(self.config.backlog):
            if not waiting.poll(0):
                return
            await asyncio.sleep(0)


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
