"""The long-lived server: loads the models, then opens its port."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from lambda_serving.errors import Unavailable
from lambda_serving.model_config import ModelConfig
from lambda_serving.server_core import ServerCore
from lambda_serving.settings import Settings
from lambda_serving.startup import open_manager
from lambda_serving.store import Store, open_store

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then lets the requests in flight finish.

    The port is taken first, so that a busy one is told at once, but answers only when every
    model has loaded. What comes from buckets lies in temporary folders until it is unloaded.
    Raises what loading raises, and Unavailable when the port cannot be taken.
    """
    models = settings.models()
    with (
        _listener(settings) as listener,
        ExitStack() as downloads,
        ThreadPoolExecutor(1, "load") as loader,
    ):
        manager = open_manager(settings, _folder(models, downloads))
        loading = loader.submit(
            manager.serve,
            models,
            labels_may_wait=settings.allow_version_labels_for_unavailable_models,
        )
        from lambda_serving import http_server  # takes as long as the loading: side by side

        loading.result()
        try:
            with ServerCore(manager, models, settings, lambda each: _open_store(each, downloads)):
                http_server.run(manager, settings, listener)
        finally:
            manager.close()


def _open_store(models: Sequence[ModelConfig], downloads: ExitStack) -> Store:
    base_paths = {model.name: model.base_path for model in models}
    return open_store(base_paths, _folder(models, downloads))


def _folder(models: Sequence[ModelConfig], downloads: ExitStack) -> Path:
    """A temporary folder if a model lies in a bucket; without one no writable disk is needed."""
    if not any("://" in model.base_path for model in models):
        return Path()
    folder = TemporaryDirectory(prefix="lambda-serving-", ignore_cleanup_errors=True)
    return Path(downloads.enter_context(folder))


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
