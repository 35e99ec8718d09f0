"""The long-lived server: loads the models, then opens its port."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.settings import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.core.server_core import ServerCore
from lambda_serving.core.startup import open_manager
from lambda_serving.errors import InvalidArgument, ServingError
from lambda_serving.server.downloads import prefix, remove_left
from lambda_serving.server.listeners import grpc_listener, rest_listener
from lambda_serving.server.shutdown import Stopping
from lambda_serving.server.telemetry import Observed
from lambda_serving.store import Store, open_store, temporary
from lambda_serving.store.address import Address

if TYPE_CHECKING:
    from lambda_serving.api.rpc.services import Reload
    from lambda_serving.batching import Batcher
    from lambda_serving.monitoring import ServerMetrics
    from lambda_serving.servables.tensorflow_c.sharing import Shared
    from lambda_serving.server.http_server import Server

__all__ = ["Process", "run", "serve"]

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1


class Process(Protocol):
    """What a serving process tells of itself: alone, or one of several that share the ports."""

    def asking(
        self, topic: str, answer: Callable[[bytes], bytes]
    ) -> Callable[[bytes], list[bytes]]:
        """What asks all processes, which `answer` as this one does; before `loaded`."""
        ...

    def failed_to_load(self, error: ServingError) -> None:
        """Raises the error, unless the process is to serve what did load."""
        ...

    def loaded(self, core: ServerCore) -> "Reload":
        """Models have loaded. Returns when the ports may open, with what reloads models."""
        ...

    def opened(self, server: "Server") -> None:
        """As that of `http_server.Host`."""
        ...

    def closing(self) -> None:
        """As that of `http_server.Host`."""
        ...


def serve(settings: Settings) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP, then lets the requests in flight finish.

    Busy ports are told at once, but answer only when every model has loaded. What comes from
    buckets lies in temporary folders until it is unloaded. Raises what loading raises,
    InvalidArgument for one port for both, and Unavailable when a port cannot be taken.
    """
    models = settings.models()
    if settings.port and settings.port == settings.rest_api_port:
        raise InvalidArgument(
            f"--port and --rest_api_port are both {settings.port}. Give each a port of its own"
        )
    if settings.port:  # gRPC takes it once the models have loaded
        grpc_listener(settings).close()
    with rest_listener(settings) as listener:
        run(settings, models, listener, _Alone(listener))


def run(
    settings: Settings,
    models: Sequence[ModelConfig],
    listener: socket.socket,
    process: Process,
    shared: "Shared | None" = None,
) -> None:
    """`serve` of these models, for a process that has its REST socket, `shared` with others."""
    with (
        ExitStack() as downloads,
        Observed(settings, process.asking) as observed,
        _batcher(settings, observed.metrics) as batcher,
        ThreadPoolExecutor(1, "load") as loader,
    ):
        stopping = Stopping(partial(_end, downloads))
        wrap = batcher.joined if batcher else None
        folder = _folder(models, downloads)
        manager = open_manager(settings, models, folder, wrap, observed.metrics, shared=shared)
        if observed.metrics:
            observed.metrics.serves = manager.serves
        observed.configure(models)
        loading = loader.submit(
            manager.serve,
            models,
            labels_may_wait=settings.allow_version_labels_for_unavailable_models,
        )
        from lambda_serving.server import http_server  # takes as long as the loading: side by side

        while not loading.done():  # a signal that another thread gets does not wake this one
            wait([loading], _LOOK_SECONDS)
        try:
            loading.result()
        except ServingError as error:
            process.failed_to_load(error)
            manager.configure(models, manager.store, labels_may_wait=True)
        stopping.loaded()
        try:
            opened = partial(_open_store, downloads)
            with (
                ServerCore(manager, models, settings, opened, observed.configure) as core,
                _rpc(manager, settings, process.loaded(core), observed),
            ):
                http_server.run(manager, settings, listener, observed, stopping, process)
        finally:
            manager.close()


class _Alone:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def asking(self, _: str, answer: Callable[[bytes], bytes]) -> Callable[[bytes], list[bytes]]:
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


def _end(downloads: ExitStack) -> None:
    """Ends the process, although a thread is loading, which may take as long as it likes."""
    _log.info("Told to stop before every model had loaded")
    downloads.close()
    remove_left(os.getpid())  # one that was being made
    logging.shutdown()
    os._exit(0)


def _rpc(
    manager: Manager, settings: Settings, reload: "Reload", observed: Observed
) -> AbstractContextManager[None]:
    """Answers gRPC inside its block; without an address for it grpcio is not even imported."""
    if not settings.port and not settings.grpc_socket_path:
        return nullcontext()
    from lambda_serving.api.rpc.grpc_server import serving

    counters = observed.counters if observed.metrics else None
    return serving(manager, settings, reload, observers=observed.observers, counters=counters)


def _open_store(downloads: ExitStack, models: Sequence[ModelConfig]) -> Store:
    base_paths = {model.name: model.base_path for model in models}
    return open_store(base_paths, _folder(models, downloads))


def _folder(models: Sequence[ModelConfig], downloads: ExitStack) -> Path:
    """A temporary folder if a model lies in a bucket; without one no writable disk is needed."""
    if not any(Address.parse(model.base_path).is_bucket for model in models):
        return Path()
    return downloads.enter_context(temporary.folder(prefix(os.getpid())))


def _batcher(
    settings: Settings, metrics: "ServerMetrics | None"
) -> "AbstractContextManager[Batcher | None]":
    """What joins requests, if they are to be joined (model_servers/server.cc)."""
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
