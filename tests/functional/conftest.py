"""The REST API over the models of `build_models.py`, in process: no socket, no server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import All
from lambda_serving.core.basic_manager import Manager
from lambda_serving.servables import saved_model
from lambda_serving.servables.litert.load import load_tflite
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.tensorflow_c import memory
from lambda_serving.store import LocalStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MakeApp = Callable[[tuple[str, ...]], httpx.ASGITransport]
_LABELS = {"two_versions": {"stable": 1, "canary": 2}}
_NOT_SERVED = {"warmup_fails"}  # its load fails, and so would that of all models together


@pytest.fixture(scope="session")
def manager(models_dir: Path) -> Iterator[Manager]:
    """Every version of every model, loaded once for the whole run."""
    with _loaded(models_dir, _loading(models_dir)) as manager:
        yield manager


@pytest.fixture(scope="session")
def app(manager: Manager) -> MakeApp:
    """Makes the way to an app that serves `manager` as a server with these flags would."""
    return _make_app(manager)


@pytest.fixture(scope="session")
def compiled_app(models_dir: Path, compiled_dir: Path) -> Iterator[MakeApp]:
    """`app` over the compiled models."""
    with _loaded(compiled_dir, _loading(models_dir)) as manager:
        yield _make_app(manager)


@pytest.fixture(scope="session")
def tflite_manager(tflite_dir: Path) -> Iterator[Manager]:
    """As `manager`, over the models that LiteRT serves.

    They are loaded without the trial of each, which takes longer than all else.
    """

    def load(path: Path) -> Servable:
        return load_tflite(path, 1, 1, memory.trim, trusted=True)

    with _loaded(tflite_dir, load) as manager:
        yield manager


@pytest.fixture(scope="session")
def tflite_app(tflite_manager: Manager) -> MakeApp:
    """`app` over the models that LiteRT serves."""
    return _make_app(tflite_manager)


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def runtime_manager(request: pytest.FixtureRequest) -> Manager:
    """The managers of each runtime in turn: `manager`, `tflite_manager`."""
    name = "manager" if request.param == "tensorflow" else "tflite_manager"
    manager: Manager = request.getfixturevalue(name)
    return manager


@contextmanager
def _loaded(folder: Path, load: Callable[[Path], Servable]) -> Iterator[Manager]:
    models = [
        ModelConfig(model.name, str(model), All(), _LABELS.get(model.name, {}))
        for model in sorted(folder.iterdir())
        if model.name not in _NOT_SERVED
    ]
    manager = Manager(LocalStore({model.name: model.base_path for model in models}), load)
    manager.serve(models)
    yield manager
    manager.close()


def _loading(models_dir: Path) -> Callable[[Path], Servable]:
    return partial(saved_model.load, cache=models_dir.parent)  # not the user's own cache folder


def _make_app(manager: Manager) -> MakeApp:
    @cache
    def create(flags: tuple[str, ...]) -> httpx.ASGITransport:
        # ---- THE ONE SPOT that knows how an app is made of a manager and flags ----
        from lambda_serving.api.rest import create_app
        from lambda_serving.config.server_flags import Settings

        settings = Settings(
            rest_api_enable_cors_support="--rest_api_enable_cors_support=true" in flags
        )
        return httpx.ASGITransport(create_app(manager, settings))

    return create


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of moto's server, which boto3 reaches without a socket."""
    from support import cloud  # which imports all of moto

    with cloud.moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The endpoint of S3: moto's server, which boto3 reaches over HTTP."""
    from support import cloud

    with cloud.moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoint: str) -> "Iterator[S3Client]":
    """A client of S3 in the region that needs no name of it."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - moto takes any
    )
    yield client
    client.close()


@pytest.fixture
def bucket(client: "S3Client") -> str:
    """The name of a bucket of the test's own."""
    name = f"bucket-{uuid4()}"
    client.create_bucket(Bucket=name)
    return name
