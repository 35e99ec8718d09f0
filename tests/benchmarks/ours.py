"""Our application with one model, as in a function on AWS Lambda or in a server."""

import os
from functools import partial

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import Application, create_app
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.core.basic_manager import Manager
from lambda_serving.servables.saved_model import load
from lambda_serving.store import LocalStore

__all__ = ["create"]


def create(base_path: str, *, threads: bool) -> Application:
    """The application, its predictions in the caller's thread or in `threads`, as served."""
    manager = Manager(LocalStore({"MLP": base_path}), partial(load, files_stay=True))
    manager.serve([ModelConfig("MLP", base_path)])
    return create_app(
        manager, threads=Threads(4 * (os.cpu_count() or 1), "predict") if threads else None
    )
