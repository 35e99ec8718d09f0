"""An image that was made without Docker, run by Docker: base, registry and model are real."""

import json
from pathlib import Path

import pytest

import containers
import docker_engine
import events
import registry
from docker_engine import docker
from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.image import Registry, append, open_client
from server_process import MNIST


@pytest.mark.usefixtures("docker")
def test_compiled_model_on_the_base_image_predicts_a_digit(tmp_path: Path) -> None:
    base = docker_engine.build(
        "lambda-serving-base", "functions/predict/Dockerfile", "--target=serving"
    )
    compile_saved_model(MNIST / "saved/1", tmp_path / "1")
    with registry.running() as host, open_client() as client:
        docker("tag", base, f"{host}/models:base")
        docker("push", "--quiet", f"{host}/models:base")
        appended = append(
            Registry(client),
            f"{host}/models:base",
            tmp_path / "1",
            "/models/MLP/1",
            f"{host}/models:MLP-1",
            {"MODEL_NAME": "MLP", "MODEL_BASE_PATH": "/models/MLP"},
        )
        image = f"{host}/models@{appended.digest}"
        docker("pull", "--quiet", image)
    try:
        with containers.running(image) as function:
            status, _, body = events.answer(function.invoke(events.load("predict")))
    finally:
        docker("rmi", "--force", image, f"{host}/models:base")
    assert appended.sent < 1_000_000  # the model alone
    assert status == 200
    [row] = json.loads(body)["predictions"]
    assert row.index(max(row)) == 7
