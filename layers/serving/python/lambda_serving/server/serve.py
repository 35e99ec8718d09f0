"""The long-lived server: loads the models, then opens its ports."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.core.server_core import ServerCore
from lambda_serving.core.startup import open_manager
from lambda_serving.errors import InvalidArgument, ServingError
from lambda_serving.server.downloads import downloads_folder, open_models, remove_downloads
from lambda_serving.server.listeners import grpc_listener, rest_listener
from lambda_serving.server.shutdown import ShutdownSignals
from lambda_serving.server.telemetry import Telemetry

if TYPE_CHECKING:
    from lambda_serving.api.rpc.services import Reload
    from lambda_serving.batching import Batcher
    from lambda_serving.monitoring.server_metrics import ServerMetrics
    from lambda_serving.servables.tensorflow_c.shared_memory import Shared
    from lambda_serving.server.http_server import Server

__all__ = ["Process", "run", "serve"]

_log = logging.getLogger(__name__)
_POLL_SECONDS = 1


class Process(Protocol):
    """A serving process: alone, or one of several that share the ports."""

    def gatherer(
        self, topic: str, answer: Callable[[bytes], bytes]
    ) -> Callable[[bytes], list[bytes]]:
        """Returns a function that queries all processes; this one answers with `answer`.

        Must be called before `loaded`.
        """

    def failed_to_load(self, error: ServingError) -> None:
        """Raises the error, unless the process should serve the models that did load."""

    def loaded(self, core: ServerCore) -> "Reload":
        """Waits until the ports may open; returns the function that reloads models."""

    def opened(self, server: "Server") -> None:
        """The server accepts connections."""

    def closing(self) -> None:
        """The server will soon refuse connections."""


def serve(settings: Settings) -> None:
    """Serves until a shutdown signal, then lets requests in flight finish.

    Ports are checked at once, and open when every model has loaded. Files from buckets lie in
    temporary folders until their model is unloaded. Raises what loading raises, InvalidArgument if
    both protocols have the same port, and Unavailable if a port cannot be bound.
    """
    models = settings.models()
    if settings.port and settings.port == settings.rest_api_port:
        raise InvalidArgument(
            f"--port and --rest_api_port are both {settings.port}. Give each a port of its own"
        )
    if settings.port:  # gRPC binds it once the models have loaded
        grpc_listener(settings).close()
    with rest_listener(settings) as listener:
        run(settings, models, listener, _Alone(listener))


def run(
    settings: Settings,
    models: Sequence[ModelConfig],
    listener: socket.socket,
    process: Process,
    shared: "Shared | None" = None,
    exit_code: Callable[[int], int] = lambda _: 0,
) -> int:
    """Like `serve`, for a process that has bound its REST socket and may share weights.

    Returns the exit code for the signal that ended it, and exits with that while models load.
    """
    with (
        ExitStack() as downloads,
        Telemetry(settings, process.gatherer) as telemetry,
        _batcher(settings, telemetry.metrics) as batcher,
    ):
        signals = ShutdownSignals(partial(_end, downloads, exit_code))
        wrap = batcher.joined if batcher else None
        folder = downloads_folder(models, downloads, os.getpid())
        manager = open_manager(settings, models, folder, wrap, telemetry.metrics, shared=shared)
        if telemetry.metrics:
            telemetry.metrics.serves = manager.serves
        telemetry.configure(models)
        _load(manager, settings, models, process)
        signals.loaded()
        from lambda_serving.server import http_server

        try:
            store = partial(open_models, downloads=downloads, process=os.getpid())
            with (
                ServerCore(manager, models, settings, store, telemetry.configure) as core,
                _rpc(manager, settings, process.loaded(core), telemetry),
            ):
                opened, closing = process.opened, process.closing
                http_server.run(manager, settings, listener, telemetry, signals, opened, closing)
        finally:
            manager.close()
    return exit_code(signals.received)


def _load(
    manager: Manager, settings: Settings, models: Sequence[ModelConfig], process: Process
) -> None:
    """Loads the models in a thread, and imports the HTTP server meanwhile."""
    with ThreadPoolExecutor(1, "load") as loader:
        loading = loader.submit(
            manager.serve,
            models,
            labels_may_wait=settings.allow_version_labels_for_unavailable_models,
        )
        import_module("lambda_serving.server.http_server")
        while not loading.done():  # a signal that another thread receives does not wake this one
            wait([loading], _POLL_SECONDS)
        try:
            loading.result()
        except ServingError as error:
            process.failed_to_load(error)
            manager.configure(models, manager.store, labels_may_wait=True)


class _Alone:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def gatherer(self, _: str, answer: Callable[[bytes], bytes]) -> Callable[[bytes], list[bytes]]:
        return lambda payload: [answer(payload)]

    def failed_to_load(self, error: ServingError) -> None:
        raise error

    def loaded(self, core: ServerCore) -> "Reload":
        return core.reload

    def opened(self, _: "Server") -> None:
        host, port = self._listener.getsockname()[:2]
        _log.info("Exporting HTTP/REST API at: http://%s:%s", host, port)

    def closing(self) -> None:
        pass


def _end(downloads: ExitStack, exit_code: Callable[[int], int], number: int) -> None:
    """Ends the process at once, even if a thread is still loading."""
    _log.info("Stopped before every model had loaded")
    downloads.close()
    remove_downloads(os.getpid())  # a folder that was just being created
    logging.shutdown()
    os._exit(exit_code(number))


def _rpc(
    manager: Manager, settings: Settings, reload: "Reload", telemetry: Telemetry
) -> AbstractContextManager[None]:
    """Serves gRPC inside the `with` block; without an address for it, does not import grpcio."""
    if not settings.port and not settings.grpc_socket_path:
        return nullcontext()
    from lambda_serving.api.rpc.grpc_server import serving

    counters = telemetry.counters if telemetry.metrics else None
    return serving(manager, settings, reload, observers=telemetry.observers, counters=counters)


def _batcher(
    settings: Settings, metrics: "ServerMetrics | None"
) -> "AbstractContextManager[Batcher | None]":
    """What joins requests, if batching is on (model_servers/server.cc)."""
    file = settings.batching_parameters_file
    if not settings.enable_batching:
        if file:
            raise InvalidArgument("--batching_parameters_file is set without --enable_batching")
        return nullcontext()
    from lambda_serving.batching import Batcher, BatchingParameters, read

    unnamed = BatchingParameters(thread_pool_name="model_server_batch_threads")
    parameters = read(Path(file)) if file else unnamed
    per_model = settings.enable_per_model_batching_parameters
    if metrics is None:
        return Batcher(parameters, per_model=per_model)
    return Batcher(parameters, per_model=per_model, report=metrics.batch_ran)
