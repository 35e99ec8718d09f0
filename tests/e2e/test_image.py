"""The predict image: what is in it, and that Lambda's emulator can run it."""

import json
import re
from typing import Any

import pytest

import containers
import events
from docker_engine import docker

_MODEL_FILES = ["assets.extra/compiled.json", "fingerprint.pb", "saved_model.pb", "weights/DIGEST"]


@pytest.fixture(scope="module")
def config(predict_image: str) -> dict[str, Any]:
    return containers.config(predict_image)


def _in(image: str, *command: str) -> list[str]:
    """The lines that a command prints in the image."""
    entrypoint, *arguments = command
    return docker("run", "--rm", f"--entrypoint={entrypoint}", image, *arguments).splitlines()


def test_says_what_lambda_and_sam_look_for(config: dict[str, Any]) -> None:
    assert config["Labels"]["com.amazonaws.lambda.feature.snapstart"] == "Allow"
    assert not config.get("User")
    assert config["Entrypoint"] == ["python3", "-m", "awslambdaric"]
    assert config["Cmd"] == ["handler.handler"]


def test_compiled_model_is_the_last_layer_alone(predict_image: str) -> None:
    docker_file_steps = docker(
        "history", "--no-trunc", "--format={{.Size}} {{.CreatedBy}}", predict_image
    )
    last = docker_file_steps.splitlines()[0]
    assert "/models" in last
    found = _in(predict_image, "find", "/models", "-type", "f", "-printf", "%P\n")
    names = [re.sub("weights/[0-9a-f]{32}$", "weights/DIGEST", name) for name in found]
    assert sorted(names) == [f"MLP/1/{name}" for name in _MODEL_FILES]


def test_holds_two_libraries_of_tensorflow_and_no_python(predict_image: str) -> None:
    found = _in(predict_image, "find", "/", "-path", "*/tensorflow/*", "-printf", "%f\n")
    assert set(found) == {
        "THIRD_PARTY_NOTICES.txt",
        "libtensorflow_cc.so.2",
        "libtensorflow_framework.so.2",
    }


def test_stripped_packages_load(predict_image: str) -> None:
    program = (
        "import boto3, numpy as np, numpy.linalg, numpy.random\n"
        "boto3.client('s3', 'eu-west-1'), boto3.client('sts', 'eu-west-1')\n"
        "print(np.linalg.det(np.eye(3)))"
    )
    assert _in(predict_image, "python3", "-W", "error", "-c", program) == ["1.0"]


def test_predicts_a_digit(predict_image: str) -> None:
    with containers.running(predict_image) as function:
        status, _, body = events.answer(function.invoke(events.load("predict")))
    assert status == 200
    [row] = json.loads(body)["predictions"]
    assert row.index(max(row)) == 7


def test_model_folder_without_versions_is_told_at_the_start(predict_image: str) -> None:
    nowhere = {"MODEL_BASE_PATH": "/models/nowhere"}
    with containers.running(predict_image, nowhere) as function:
        answer = function.invoke(events.load("predict"))
    assert "/models/nowhere" in answer["errorMessage"]
