"""The long-lived server: loads the models, then opens its port."""

import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from lambda_serving.errors import Unavailable
from lambda_serving.manager import Manager
from lambda_serving.saved_model import load
from lambda_serving.settings import ServerSettings
from lambda_serving.store import LocalStore
from lambda_serving.tensorflow_c.library import load_op_library

__all__ = ["serve"]


def serve(settings: ServerSettings) -> None:
    """Serves until SIGINT or SIGTERM, then lets the requests in flight finish.

    The port is taken first, so that a busy one is told at once, but answers only when every
    model has loaded. Raises what loading raises, and Unavailable when the port cannot be taken.
    """
    models = settings.models()
    with _listener(settings) as listener, ThreadPoolExecutor(1, "load") as loader:
        manager = _manager(settings)
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


def _manager(settings: ServerSettings) -> Manager:
    models = settings.models()
    for path in filter(None, settings.op_libraries.split(",")):
        load_op_library(path)
    return Manager(
        LocalStore({model.name: model.base_path for model in models}),
        partial(
            load,
            tags=settings.saved_model_tags.split(","),
            session_config=settings.session_config(),
            warm_up=settings.enable_model_warmup,
            warm_up_iterations=settings.num_request_iterations_for_warmup or 1,
            cache=Path(settings.cache_dir) if settings.cache_dir else None,
        ),
    )


def _listener(settings: ServerSettings) -> socket.socket:
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
