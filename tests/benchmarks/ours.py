"""Our application with the sample model, as in a function on AWS Lambda or in a server."""

import os
from pathlib import Path

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import Application, create_app
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.core.basic_manager import Manager
from lambda_serving.servables.saved_model import load
from lambda_serving.store import LocalStore

__all__ = ["create"]

_BASE_PATH = str(Path(__file__).parents[2] / "examples/mnist/saved")


def create(*, threads: bool) -> Application:
    """The application, its predictions in the caller's thread or in `threads`, as served."""
    manager = Manager(LocalStore({"MLP": _BASE_PATH}), load)
    manager.serve([ModelConfig("MLP", _BASE_PATH)])
    return create_app(
        manager, threads=Threads(4 * (os.cpu_count() or 1), "predict") if threads else None
    )
