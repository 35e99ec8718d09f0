"""An image that was made without Docker, run by Docker: base, registry and model are real."""

import json
from pathlib import Path

from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.image import Registry, append, open_client
from support import containers, events
from support.docker_engine import docker
from support.server_process import MNIST


def test_compiled_model_on_the_base_image_predicts_a_digit(tmp_path: Path, base: str) -> None:
    repository = base.partition("@")[0]
    compile_saved_model(MNIST / "saved/1", tmp_path / "1")
    with open_client() as client:
        appended = append(
            Registry(client),
            base,
            tmp_path / "1",
            "/models/MLP/1",
            f"{repository}:MLP-1",
            {"MODEL_NAME": "MLP", "MODEL_BASE_PATH": "/models/MLP"},
        )
    image = f"{repository}@{appended.digest}"
    docker("pull", "--quiet", image)
    try:
        with containers.running(image) as function:
            status, _, body = events.answer(function.invoke(events.load("predict")))
    finally:
        docker("rmi", "--force", image)
    assert appended.sent < 1_000_000  # the model alone
    assert status == 200
    [row] = json.loads(body)["predictions"]
    assert row.index(max(row)) == 7
