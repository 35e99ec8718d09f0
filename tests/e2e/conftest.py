"""Fixtures of the tests that need Docker."""

from collections.abc import Iterator

import pytest

from lambda_serving.image import Registry, open_client
from support import cloud, docker_engine, registry


@pytest.fixture(scope="session")
def docker() -> Iterator[None]:
    """Docker Engine answers and has the base image."""
    with docker_engine.running():
        docker_engine.make_base_image()
        yield


@pytest.fixture(scope="session")
def predict_image(docker: None) -> str:  # noqa: ARG001 the engine must answer
    """The image of a function with the sample model in it, served by TensorFlow."""
    image, dockerfile = "lambda-serving-predict-tensorflow", "images/Dockerfile"
    runtime = "--build-arg=RUNTIME=tensorflow"
    return docker_engine.build(image, dockerfile, "--target=predict", runtime)


@pytest.fixture(scope="session")
def lite_image(docker: None) -> str:  # noqa: ARG001 the engine must answer
    """The same, served by LiteRT. By default, a busy machine might choose either."""
    image, dockerfile = "lambda-serving-predict", "images/Dockerfile"
    return docker_engine.build(image, dockerfile, "--target=predict", "--build-arg=RUNTIME=litert")


@pytest.fixture(scope="session")
def base(docker: None) -> Iterator[str]:  # noqa: ARG001 the engine must answer
    """The image of a function without a model in a registry, as `HOST/models@DIGEST`."""
    image = docker_engine.build("lambda-serving-base", "images/Dockerfile", "--target=serving")
    with registry.running() as host, open_client() as client:
        tag = f"{host}/models:base"
        docker_engine.docker("tag", image, tag)
        try:
            docker_engine.docker("push", "--quiet", tag)
        finally:
            docker_engine.docker("rmi", tag)
        yield f"{host}/models@{Registry(client).digest(tag)}"


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of moto's server."""
    with cloud.moto() as endpoint:
        yield endpoint
