"""The services over gRPC: on a port, on a UNIX socket, or on both.

An event loop in a thread of its own reads messages, so a client that stalls blocks no other thread;
predictions run in threads. Source: model_servers/server.cc.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Thread
from typing import Protocol, TypeVar

import grpc
import grpc.aio

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rpc.grpc_calls import Calls
from lambda_serving.api.rpc.services import Counters, Reload, Services, no_reload
from lambda_serving.api.rpc.tls import credentials
from lambda_serving.api.rpc.unix_sockets import taken
from lambda_serving.call_record import Observers
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import InvalidArgument, Unavailable

__all__ = ["serving"]

_log = logging.getLogger(__name__)
_GRACE_SECONDS = 30
_HEALTHY = ("", "ModelService", "PredictionService")
_MOST_STREAMS = 1000  # calls at once on a connection
_PING_MS = 60_000  # without traffic, before a connection is probed

_Result = TypeVar("_Result")


class _Run(Protocol):
    def __call__(self, coroutine: Coroutine[None, None, _Result]) -> _Result: ...


@contextmanager
def serving(
    manager: Manager,
    settings: Settings,
    reload: Reload = no_reload,
    *,
    observers: Observers | None = None,
    counters: Counters | None = None,
) -> Iterator[None]:
    """Answers calls inside the block; at its end, calls in flight finish and no new ones start.

    `observers` and `counters` are those of `Services`. Raises Unavailable for an address that
    cannot be listened on, InvalidArgument for wrong settings, and what `unix_sockets.taken` and
    `tls.credentials` raise.
    """
    path = settings.grpc_socket_path
    with (
        taken(Path(path)) if path else nullcontext() as socket,
        Threads(settings.grpc_max_threads, "rpc") as threads,
        _loop() as run,
    ):
        services = Services(
            manager, settings, threads, reload, observers=observers, counters=counters
        )
        calls = Calls(services, settings.client_timeout_seconds)
        manager.watch(threads)
        port = _port(settings)
        bound = [*port, f"unix:{socket.unbound}"] if socket else port
        server = run(_started(calls, bound, settings))
        if socket:
            socket.put()
        addresses = [*port, f"unix:{path}"] if socket else port
        _log.info("Running gRPC ModelServer at: %s", ", ".join(addresses))
        try:
            yield
        finally:
            run(_stopped(server, calls))


@contextmanager
def _loop() -> Iterator[_Run]:
    """A function that runs a coroutine in the event loop of a thread, and waits for it."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="grpc")
    thread.start()

    def run(coroutine: Coroutine[None, None, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _started(calls: Calls, addresses: Sequence[str], settings: Settings) -> grpc.aio.Server:
    server = grpc.aio.server(options=_channel_arguments(settings))
    calls.add_to(server)
    if settings.enable_grpc_healthcheck_service:
        await _add_health(server)
    _listen(server, addresses, settings)
    await server.start()
    return server


async def _stopped(server: grpc.aio.Server, calls: Calls) -> None:
    """Ends once every call is answered; streams that watch health are cut off then."""
    stopping = asyncio.create_task(server.stop(_GRACE_SECONDS))
    await asyncio.sleep(0)  # from here on it takes no more calls
    await calls.finished()
    await server.stop(None)
    await stopping


def _port(settings: Settings) -> list[str]:
    host = f"[{settings.grpc_host}]" if ":" in settings.grpc_host else settings.grpc_host
    return [f"{host}:{settings.port}"] if settings.port else []


def _channel_arguments(settings: Settings) -> list[tuple[str, int | str]]:
    """The operator's arguments, integers where they look so, then ours: the first counts."""
    arguments: list[tuple[str, int | str]] = []
    for argument in filter(None, settings.grpc_channel_arguments.split(",")):
        key, equals, value = argument.partition("=")
        if not equals:
            raise InvalidArgument(
                f"--grpc_channel_arguments has {argument!r}; it must be key=value,key=value"
            )
        try:
            arguments.append((key, int(value)))
        except ValueError:
            arguments.append((key, value))
    return [
        *arguments,
        ("grpc.max_receive_message_length", settings.grpc_max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _MOST_STREAMS),
        ("grpc.keepalive_time_ms", _PING_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS // 2),
        # or two servers could share a port unnoticed; workers do share theirs
        ("grpc.so_reuseport", int(settings.workers > 1)),
    ]


async def _add_health(server: grpc.aio.Server) -> None:
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.aio.HealthServicer()
    for name in _HEALTHY:
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


def _listen(server: grpc.aio.Server, addresses: Sequence[str], settings: Settings) -> None:
    tls = credentials(settings.ssl_config_file)
    for address in addresses:
        try:
            if tls is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, tls)
        except RuntimeError as error:
            raise Unavailable(
                f"Could not serve gRPC on {address}: {error}."
                " Choose another --port or --grpc_socket_path, or --port=0 for no gRPC"
                + (f", or fix {settings.ssl_config_file}" if tls else "")
            ) from error
