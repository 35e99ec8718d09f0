"""The services over gRPC: on a port, on a UNIX socket, or on both.

Source: model_servers/server.cc.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from lambda_serving.call_record import Observers, request_id
from lambda_serving.errors import InvalidArgument, Unavailable
from lambda_serving.manager import Manager
from lambda_serving.rpc import errors
from lambda_serving.rpc.credentials import credentials
from lambda_serving.rpc.services import (
    Counters,
    Reload,
    RpcOptions,
    Services,
    no_reload,
    timeout_ms,
)
from lambda_serving.settings import Settings

__all__ = ["serving"]

_log = logging.getLogger(__name__)
_GRACE_SECONDS = 30
_REQUEST_ID = "x-request-id"
_STATUSES = {status.value[0]: status for status in grpc.StatusCode}
_HEALTHY = ("", "ModelService", "PredictionService")


@contextmanager
def serving(
    manager: Manager,
    settings: Settings,
    reload: Reload = no_reload,
    *,
    observers: Observers | None = None,
    counters: Counters | None = None,
) -> Iterator[None]:
    """Answers inside the block; at its end no more calls are taken, and those in flight finish.

    `observers` and `counters` are as those of `Services`. Neither a port nor a socket is no
    server. Raises Unavailable for an address that cannot be listened on, and InvalidArgument for
    settings that make no sense.
    """
    addresses = _addresses(settings)
    if not addresses:
        yield
        return
    services = Services(
        manager, RpcOptions.of(settings), reload, observers=observers, counters=counters
    )
    with ThreadPoolExecutor(settings.grpc_max_threads, "rpc") as threads:
        server = grpc.server(threads, options=_channel_arguments(settings))
        _add_methods(server, services)
        if settings.enable_grpc_healthcheck_service:
            _add_health(server)
        _listen(server, addresses, settings)
        server.start()
        _log.info("Running gRPC ModelServer at: %s", ", ".join(addresses))
        try:
            yield
        finally:
            server.stop(_GRACE_SECONDS).wait()


def _addresses(settings: Settings) -> list[str]:
    host = f"[{settings.grpc_host}]" if ":" in settings.grpc_host else settings.grpc_host
    port = [f"{host}:{settings.port}"] if settings.port else []
    path = [f"unix:{settings.grpc_socket_path}"] if settings.grpc_socket_path else []
    return port + path


def _channel_arguments(settings: Settings) -> list[tuple[str, int | str]]:
    """The operator's, whole numbers as such and all else as text, then ours: the first counts."""
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
        # or two servers would share a port without a word; workers share theirs
        ("grpc.so_reuseport", int(settings.workers > 1)),
    ]


def _add_methods(server: grpc.Server, services: Services) -> None:
    for path in services.methods:
        _, service, method = path.split("/")
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            _behavior(services, path)
        )
        generic = grpc.method_handlers_generic_handler(service, {method: handler})
        server.add_generic_rpc_handlers((generic,))


def _behavior(services: Services, path: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def behave(body: bytes, context: grpc.ServicerContext) -> bytes:
        if not context.is_active():  # its client waited too long for a thread, or went away
            context.abort(grpc.StatusCode.CANCELLED, "The client does not wait any more")
        timeout = timeout_ms(context.time_remaining())
        known_as = _identify(context) if services.wants_id(path) else ""
        reply = services.answer(path, body, timeout, request_id=known_as)
        if reply.code != errors.OK:
            context.abort(_STATUSES[reply.code], reply.message)
        return reply.body

    return behave


def _identify(context: grpc.ServicerContext) -> str:
    """The id of a call, which is told to the client."""
    given = dict(context.invocation_metadata()).get(_REQUEST_ID, "")
    known_as = request_id(given if isinstance(given, str) else "")
    context.send_initial_metadata(((_REQUEST_ID, known_as),))
    return known_as


def _add_health(server: grpc.Server) -> None:
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    for name in _HEALTHY:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


def _listen(server: grpc.Server, addresses: Sequence[str], settings: Settings) -> None:
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
                + (f", or mend {settings.ssl_config_file}" if tls else "")
            ) from error
