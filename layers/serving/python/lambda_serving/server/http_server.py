"""The REST API and gRPC-Web on one socket."""

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

import uvicorn

from lambda_serving.api.http import Bounded
from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import create_app
from lambda_serving.api.rpc import with_grpc_web
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.server.http_protocol import protocol
from lambda_serving.server.shutdown import ShutdownSignals
from lambda_serving.server.telemetry import Telemetry

__all__ = ["Server", "run"]

_log = logging.getLogger(__name__)
_FAREWELL_TICKS, _TICK_SECONDS = 20, 0.05
_ALL_BODIES = 256 * 2**20  # bytes, or four of the largest body if that is more
_LARGEST_BODIES = 4
_KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep idle connections, commonly 60 s


def run(
    manager: Manager,
    settings: Settings,
    listener: socket.socket,
    telemetry: Telemetry,
    signals: ShutdownSignals,
    opened: Callable[["Server"], None],
    closing: Callable[[], None],
) -> None:
    """Serves on `listener` until a shutdown signal, then lets requests in flight finish.

    Requests that hang do not keep the process alive: it ends `settings.drain_seconds` later. Calls
    `opened` when the server accepts connections, and `closing` when it will soon refuse them.
    """
    with (
        Threads(settings.rest_api_num_threads, "predict") as threads,
        ThreadPoolExecutor(1, "pages") as first,
    ):
        manager.watch(threads)
        rest = create_app(manager, settings, threads, telemetry.observers)
        first.submit(getattr, rest, "pages")  # so that the first health check does not wait
        both = with_grpc_web(rest, manager, settings, threads, telemetry.observers)
        largest = _LARGEST_BODIES * settings.rest_api_max_body_bytes
        config = uvicorn.Config(
            Bounded(telemetry.with_page(both), max(_ALL_BODIES, largest)),
            http=protocol(settings.client_timeout_seconds),
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        _allow_files()
        listener.listen()  # from now on clients wait instead of being refused
        drain = partial(_drain, manager, settings.drain_seconds)
        server = Server(config, drain, opened, closing)
        signals.drain_by(server.stop)
        server.run(sockets=[listener])


class Server(uvicorn.Server):
    """Calls `begin_drain` at the first signal, and tells clients before it closes."""

    def __init__(
        self,
        config: uvicorn.Config,
        begin_drain: Callable[[], None],
        opened: Callable[["Server"], None],
        closing: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._begin_drain = begin_drain
        self._opened = opened
        self._closing = closing
        self._loop: asyncio.AbstractEventLoop

    def stop(self) -> None:
        """Ends `run` as a signal does; may be called before `run`."""
        self.handle_exit(signal.SIGTERM, None)

    def accept_from(self, listeners: Sequence[socket.socket]) -> None:
        """Also accepts connections from these sockets, instead of those of the last call.

        Any thread may call this; the caller keeps the sockets.
        """
        asyncio.run_coroutine_threadsafe(self._accept_from(listeners), self._loop)

    def soon(self, call: Callable[[], None]) -> None:
        """Makes the event loop call this soon, if it still runs; any thread may call."""
        with suppress(RuntimeError):  # the loop has ended
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
            self._begin_drain()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._opened(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes each connection after its next answer, which says so, or after a second."""
        self._closing()
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
        """Accepts clients that have already connected: closing the socket would reset them.

        The loop accepts some in each iteration. A client that connects in the microseconds between
        the last poll and the close is reset: no system call closes only an empty queue.
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
    """Raises the limit of open files to its maximum, as each connection is a file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _drain(manager: Manager, seconds: int) -> None:
    _log.info("Requests in flight have %d s to finish", seconds)
    manager.drain()
    give_up = threading.Timer(seconds, _give_up, [seconds])
    give_up.daemon = True
    give_up.start()


def _give_up(seconds: int) -> None:
    _log.error("Requests are still running after --drain_seconds=%d: they are cut off", seconds)
    logging.shutdown()
    os._exit(1)  # nothing else ends a thread that hangs in TensorFlow
