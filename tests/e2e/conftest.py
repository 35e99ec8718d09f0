"""Fixtures of the tests that need Docker."""

from collections.abc import Iterator

import pytest

import docker_engine


@pytest.fixture(scope="session")
def docker() -> Iterator[None]:
    """Docker Engine answers and has the base image."""
    with docker_engine.running():
        docker_engine.make_base_image()
        yield


@pytest.fixture(scope="session")
def predict_image(docker: None) -> str:  # noqa: ARG001 the engine must answer
    """The image of a function with the sample model in it."""
    image, dockerfile = "lambda-serving-predict", "functions/predict/Dockerfile"
    return docker_engine.build(image, dockerfile, "--target=predict")
