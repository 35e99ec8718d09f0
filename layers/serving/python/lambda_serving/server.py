"""The long-lived server: loads the models, then opens its port."""

import os
import signal
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lambda_serving.errors import InvalidArgument, Unavailable
from lambda_serving.manager import Manager
from lambda_serving.model_config import ModelConfig
from lambda_serving.server_core import ServerCore
from lambda_serving.settings import Settings
from lambda_serving.startup import open_manager
from lambda_serving.store import Store, open_store

if TYPE_CHECKING:
    from lambda_serving.batching import Batcher

__all__ = ["serve"]

_REST = "--rest_api_port, 0 for any free one"
_GRPC = "--port, 0 for no gRPC"


def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then lets the requests in flight finish.

    Busy ports are told at once, but answer only when every model has loaded. What comes from
    buckets lies in temporary folders until it is unloaded. Raises what loading raises, and
    Unavailable when a port cannot be taken.
    """
    signal.signal(signal.SIGTERM, _stopped)  # process 1 of a container ignores it otherwise
    models = settings.models()
    if settings.port:  # gRPC takes it once the models have loaded
        _listener(settings.grpc_host, settings.port, _GRPC).close()
    with (
        _listener(settings.rest_api_host, settings.rest_api_port, _REST) as listener,
        ExitStack() as downloads,
        _batcher(settings) as batcher,
        ThreadPoolExecutor(1, "load") as loader,
    ):
        wrap = batcher.joined if batcher else None
        manager = open_manager(settings, _folder(models, downloads), wrap)
        loading = loader.submit(
            manager.serve,
            models,
            labels_may_wait=settings.allow_version_labels_for_unavailable_models,
        )
        from lambda_serving import http_server  # takes as long as the loading: side by side

        loading.result()
        try:
            with (
                ServerCore(manager, models, settings, partial(_open_store, downloads)) as core,
                _rpc(manager, settings, core),
            ):
                http_server.run(manager, settings, listener)
        finally:
            manager.close()


def _stopped(number: int, _: object) -> None:
    """Ends at once, as there are no requests yet and a load that goes on cannot be ended."""
    os._exit(128 + number)


def _rpc(manager: Manager, settings: Settings, core: ServerCore) -> AbstractContextManager[None]:
    """Answers gRPC inside its block; without an address for it grpcio is not even imported."""
    if not settings.port and not settings.grpc_socket_path:
        return nullcontext()
    from lambda_serving.rpc.server import serving

    return serving(manager, settings, core.reload)


def _open_store(downloads: ExitStack, models: Sequence[ModelConfig]) -> Store:
    base_paths = {model.name: model.base_path for model in models}
    return open_store(base_paths, _folder(models, downloads))


def _folder(models: Sequence[ModelConfig], downloads: ExitStack) -> Path:
    """A temporary folder if a model lies in a bucket; without one no writable disk is needed."""
    if not any("://" in model.base_path for model in models):
        return Path()
    folder = TemporaryDirectory(prefix="lambda-serving-", ignore_cleanup_errors=True)
    return Path(downloads.enter_context(folder))


def _batcher(settings: Settings) -> "AbstractContextManager[Batcher | None]":
    """What joins requests, if they are to be joined (model_servers/server.cc)."""
    file = settings.batching_parameters_file
    if not settings.enable_batching:
        if file:
            raise InvalidArgument("--batching_parameters_file is set without --enable_batching")
        return nullcontext()
    from lambda_serving.batching import Batcher, BatchingParameters, read

    unnamed = BatchingParameters(thread_pool_name="model_server_batch_threads")
    parameters = read(Path(file)) if file else unnamed
    return Batcher(parameters, per_model=settings.enable_per_model_batching_parameters)


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
