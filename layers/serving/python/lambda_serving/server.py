"""The long-lived server: loads the models, then opens its port."""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lambda_serving.call_record import Observers
from lambda_serving.errors import InvalidArgument, Unavailable
from lambda_serving.manager import Manager
from lambda_serving.model_config import ModelConfig
from lambda_serving.server_core import ServerCore
from lambda_serving.settings import Settings
from lambda_serving.startup import open_manager
from lambda_serving.store import Store, open_store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from lambda_serving.batching import Batcher
    from lambda_serving.monitoring import RequestLog, ServerMetrics

__all__ = ["serve"]

_REST = "--rest_api_port, 0 for any free one"
_GRPC = "--port, 0 for no gRPC"


def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then lets the requests in flight finish.

    Busy ports are told at once, but answer only when every model has loaded. What comes from
    buckets lies in temporary folders until it is unloaded. Raises what loading raises, and
    Unavailable when a port cannot be taken.
    """
    models = settings.models()
    if settings.port:  # gRPC takes it once the models have loaded
        _listener(settings.grpc_host, settings.port, _GRPC).close()
    observed = _Observed(settings)
    with (
        _listener(settings.rest_api_host, settings.rest_api_port, _REST) as listener,
        ExitStack() as downloads,
        observed,
        _batcher(settings, observed.metrics) as batcher,
        ThreadPoolExecutor(1, "load") as loader,
    ):
        wrap = batcher.joined if batcher else None
        manager = open_manager(settings, _folder(models, downloads), wrap, observed.metrics)
        if observed.metrics:
            observed.metrics.serves = manager.serves
        observed.configure(models)
        loading = loader.submit(
            manager.serve,
            models,
            labels_may_wait=settings.allow_version_labels_for_unavailable_models,
        )
        from lambda_serving import http_server  # takes as long as the loading: side by side

        loading.result()
        try:
            opened = partial(_open_store, downloads)
            with (
                ServerCore(manager, models, settings, opened, observed.configure) as core,
                _rpc(manager, settings, core, observed),
            ):
                http_server.run(manager, settings, listener, observed.observers, observed.pages())
        finally:
            manager.close()


class _Observed:
    """Who is told of calls, as settings and configs of models want it.

    What nobody wants is not even imported. Raises what a wrong `monitoring_config_file` raises.
    """

    def __init__(self, settings: Settings) -> None:
        self.observers = Observers()
        self.metrics: ServerMetrics | None = None
        self._page = ""
        self._requests: RequestLog | None = None
        self._ends = ExitStack()
        if settings.monitoring_config_file:
            self._measure(Path(settings.monitoring_config_file))
        if settings.access_log:
            from lambda_serving.monitoring import access_logger, log_access

            access_logger()
            self.observers.add(log_access)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """Logs requests as these models say, from now on."""
        if self._requests is None:
            if not any(model.logging for model in models):
                return
            from lambda_serving.monitoring import RequestLog

            log = RequestLog(self.metrics.logged) if self.metrics else RequestLog()
            self._requests = self._ends.enter_context(log)
            self.observers.add(log)
        self._requests.configure(models)

    def counters(self) -> dict[str, int]:
        """The value of each counter, nothing without metrics."""
        from lambda_serving.monitoring import counters

        return counters(self.metrics.snapshot()) if self.metrics else {}

    def pages(self) -> "list[Callable[[ASGIApp], ASGIApp]]":
        """What puts the page of metrics in front of an application, if there is one."""
        if (metrics := self.metrics) is None:
            return []
        from lambda_serving.monitoring import text, with_page

        return [lambda app: with_page(app, self._page, lambda: text([metrics.snapshot()]))]

    def _measure(self, file: Path) -> None:
        from lambda_serving.monitoring import ServerMetrics, page_path
        from lambda_serving.rest.app import PAGES

        if path := page_path(file, PAGES):
            self._page, self.metrics = path, ServerMetrics()
            self.observers.add(self.metrics.call_ended)


def _rpc(
    manager: Manager, settings: Settings, core: ServerCore, observed: _Observed
) -> AbstractContextManager[None]:
    """Answers gRPC inside its block; without an address for it grpcio is not even imported."""
    if not settings.port and not settings.grpc_socket_path:
        return nullcontext()
    from lambda_serving.rpc.server import serving

    counters = observed.counters if observed.metrics else None
    return serving(manager, settings, core.reload, observers=observed.observers, counters=counters)


def _open_store(downloads: ExitStack, models: Sequence[ModelConfig]) -> Store:
    base_paths = {model.name: model.base_path for model in models}
    return open_store(base_paths, _folder(models, downloads))


def _folder(models: Sequence[ModelConfig], downloads: ExitStack) -> Path:
    """A temporary folder if a model lies in a bucket; without one no writable disk is needed."""
    if not any("://" in model.base_path for model in models):
        return Path()
    folder = TemporaryDirectory(prefix="lambda-serving-", ignore_cleanup_errors=True)
    return Path(downloads.enter_context(folder))


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


def _listener(host: str, port: int, advice: str) -> socket.socket:
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
