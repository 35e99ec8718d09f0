"""The REST API over the models of `build_models.py`, in process: no socket, no server."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import httpx
import pytest

from lambda_serving import saved_model
from lambda_serving.manager import Manager
from lambda_serving.model_config import ModelConfig
from lambda_serving.store import LocalStore
from lambda_serving.version_policy import All

_LABELS = {"two_versions": {"stable": 1, "canary": 2}}
_NOT_SERVED = {"warmup_fails"}  # its load fails, and so would that of all models together


@pytest.fixture(scope="session")
def manager(models_dir: Path) -> Iterator[Manager]:
    """Every version of every model, loaded once for the whole run."""
    models = [
        ModelConfig(folder.name, str(folder), All(), _LABELS.get(folder.name, {}))
        for folder in sorted(models_dir.iterdir())
        if folder.name not in _NOT_SERVED
    ]
    store = LocalStore({model.name: model.base_path for model in models})
    load = partial(saved_model.load, cache=models_dir.parent)  # not the user's own cache folder
    manager = Manager(store, load)
    manager.serve(models)
    yield manager
    manager.close()


@pytest.fixture(scope="session")
def app(manager: Manager) -> Callable[[tuple[str, ...]], httpx.ASGITransport]:
    """Makes the way to an app that serves `manager` as a server with these flags would."""

    @cache
    def create(flags: tuple[str, ...]) -> httpx.ASGITransport:
        # ---- THE ONE SPOT that knows how an app is made of a manager and flags ----
        from lambda_serving.rest import RestOptions, create_app

        options = RestOptions(cors="--rest_api_enable_cors_support=true" in flags)
        return httpx.ASGITransport(create_app(manager, options))

    return create
