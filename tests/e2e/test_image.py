"""The images: what is in them, and that Lambda's emulator can run them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lambda_serving.servables.litert.compiled_folder import mark
from support import containers, docker_engine, events
from support.docker_engine import docker

_FUNCTIONS = Path(__file__).parents[2] / "functions"
_MODEL_FILES = ["assets.extra/compiled.json", "fingerprint.pb", "saved_model.pb", "weights/DIGEST"]


@pytest.fixture(scope="module")
def config(predict_image: str) -> dict[str, Any]:
    return containers.config(predict_image)


@pytest.fixture(scope="module")
def build_image(docker: None) -> str:  # noqa: ARG001 the engine must answer
    """The image of the function that compiles models."""
    image, dockerfile = "lambda-serving-build", "images/Dockerfile"
    return docker_engine.build(image, dockerfile, "--target=build")


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


def test_nothing_is_left_to_compile_at_each_start(lite_image: str) -> None:
    program = (
        "import os, sys, awslambdaric.bootstrap, lambda_serving.function.handler\n"
        "cached = {getattr(each, '__cached__', None) for each in sys.modules.values()} - {None}\n"
        "print(len(cached) > 100, [each for each in cached if not os.path.exists(each)])"
    )
    without_writing = "PYTHONDONTWRITEBYTECODE=1", "python3", "-c", program
    assert _in(lite_image, "env", *without_writing) == ["True []"]


@pytest.mark.parametrize("image", ["predict_image", "lite_image"])
def test_predicts_a_digit(image: str, request: pytest.FixtureRequest) -> None:
    with containers.running(request.getfixturevalue(image)) as function:
        status, _, body = events.answer(function.invoke(events.load("predict")))
    assert status == 200
    [row] = json.loads(body)["predictions"]
    assert row.index(max(row)) == 7


def test_image_of_a_lite_model_has_no_library_of_tensorflow_and_is_small(lite_image: str) -> None:
    assert _in(lite_image, "find", "/", "-name", "libtensorflow*") == []
    assert _in(lite_image, "find", "/models", "-name", "*.tflite") == ["/models/MLP/1/model.tflite"]
    layers = docker("history", "--human=false", "--format={{.Size}}", lite_image)
    assert sum(map(int, layers.split())) < 260_000_000


def test_model_that_needs_tensorflow_is_told_in_an_image_without(
    lite_image: str, models_dir: Path
) -> None:
    environment = {"MODEL_BASE_PATH": "/exports"}
    with containers.running(
        lite_image, environment, {models_dir / "dense": "/exports"}
    ) as function:
        answer = function.invoke(events.load("predict"))
    assert (
        "Could not load the SavedModel in /exports/1: TensorFlow's library"
        in (answer["errorMessage"])
    )
    assert "compile the model with --runtime=litert" in answer["errorMessage"]


def test_image_with_tensorflow_serves_a_lite_model_without_it(
    predict_image: str, tflite_dir: Path, tmp_path: Path
) -> None:
    """As in a stack that has one base image."""
    version = tmp_path / "1"
    shutil.copytree(tflite_dir / "half_plus_two/123", version)
    mark(version, "2.3.0")
    environment = {"MODEL_BASE_PATH": "/lite"}
    with containers.running(predict_image, environment, {tmp_path: "/lite"}) as function:
        assert function.invoke({"instances": [2.0]}) == {"predictions": [3.0]}
        maps = function.maps()
    assert ("litert" in maps, "libtensorflow" in maps) == (True, False)


def test_model_folder_without_versions_is_told_at_the_start(predict_image: str) -> None:
    nowhere = {"MODEL_BASE_PATH": "/models/nowhere"}
    with containers.running(predict_image, nowhere) as function:
        answer = function.invoke(events.load("predict"))
    assert "/models/nowhere" in answer["errorMessage"]


def test_each_image_holds_its_own_handler_alone(predict_image: str, build_image: str) -> None:
    for name, image in (("predict", predict_image), ("build", build_image)):
        found = _in(
            image, "find", "/var/task", "-name", "handler.py", "-not", "-path", "*_serving/*"
        )
        assert found == ["/var/task/handler.py"]
        written = (_FUNCTIONS / name / "handler.py").read_text().splitlines()
        assert _in(image, "cat", *found) == written


def test_build_image_refuses_invalid_orders(build_image: str) -> None:
    environment = {"MODELS": "s3://models/models", "AWS_DEFAULT_REGION": "eu-west-1"}
    assert containers.config(build_image)["Cmd"] == ["handler.handler"]
    with containers.running(build_image, environment) as function:
        answer = function.invoke({"no": "order"})
    assert answer["errorType"] == "InvalidArgument"


def test_build_image_has_all_of_tensorflow(build_image: str) -> None:
    program = "import tensorflow as tf; print(int(tf.constant(1) + 1))"
    assert _in(build_image, "python3", "-c", program) == ["2"]
