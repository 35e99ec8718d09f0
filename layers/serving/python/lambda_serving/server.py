"""The long-lived server: loads the models, then opens its port."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lambda_serving.errors import InvalidArgument, Unavailable
from lambda_serving.model_config import ModelConfig
from lambda_serving.settings import Settings
from lambda_serving.startup import open_manager

if TYPE_CHECKING:
    from lambda_serving.batching import Batcher

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then lets the requests in flight finish.

    The port is taken first, so that a busy one is told at once, but answers only when every
    model has loaded. What comes from buckets lies in a temporary folder until the end. Raises
    what loading raises, and Unavailable when the port cannot be taken.
    """
    models = settings.models()
    with (
        _listener(settings) as listener,
        _downloads(models) as downloads,
        _batcher(settings) as batcher,
        ThreadPoolExecutor(1, "load") as loader,
    ):
        wrap = batcher.joined if batcher else None
        manager = open_manager(settings, Path(downloads), wrap)
        loading = loader.submit(
            manager.serve,
            models,
            labels_may_wait=settings.allow_version_labels_for_unavailable_models,
        )
        from lambda_serving import http_server  # takes as long as the loading: side by side

        loading.result()
        try:
            http_server.run(manager, settings, listener)
        finally:
            manager.close()


def _downloads(models: Sequence[ModelConfig]) -> AbstractContextManager[str]:
    """A temporary folder if a model lies in a bucket; without one no writable disk is needed."""
    if any("://" in model.base_path for model in models):
        return TemporaryDirectory(prefix="lambda-serving-")
    return nullcontext("")


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


def _listener(settings: Settings) -> socket.socket:
    host, port = settings.rest_api_host, settings.rest_api_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Could not listen on {host}:{port} ({error})."
            " Choose another port with --rest_api_port, 0 for any free one"
        ) from error
    return listener
