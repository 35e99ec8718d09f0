"""The deployed system on this machine: `sam build`, `sam local invoke`, `sam local start-api`."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import httpx
import pytest

from support.conformance import Case, check, load_cases
from support.docker_engine import BASE_IMAGE
from support.grpc_web import TEXT, frame, outputs
from support.rpc_client import path_of, predict_request
from support.server_process import MNIST

_ROOT = Path(__file__).parents[2]
_SAM = _ROOT / ".venv-sam/bin/sam"
_ENVIRONMENT = {**os.environ, "AWS_DEFAULT_REGION": "eu-west-1", "SAM_CLI_TELEMETRY": "0"}
_BUILD_SECONDS, _START_SECONDS, _STOP_SECONDS = 600, 120, 60
_RETRIES = 8  # at 0, 0.5, 1, 2, ... 64 seconds
_OF_TENSORFLOW = {"col-04", "row-02"}  # it computes other ranks than the signature declares


def _cases() -> list[Case]:
    """The cases of the table that the sample's second model can answer, which LiteRT serves."""
    return [
        case
        for case in load_cases()
        if re.match(r"/v1/models/half_plus_two(:predict)?$", case.path)
        and (case.method == "POST" or case.status == 200)  # of other routes SAM says 403
        and not case.flags
        and b"_x" not in case.body
        and not {"content-encoding", "Content-Encoding"} & case.headers.keys()
        and "123" not in str(case.expected)
        and case.name not in _OF_TENSORFLOW
    ]


@pytest.fixture(scope="module")
def build(docker: None) -> None:  # noqa: ARG001 the engine must answer
    """The output of `sam build`, where the other commands look for it."""
    parameters = ("--parameter-overrides", f"BaseImage={BASE_IMAGE}")
    _sam("build", *parameters, seconds=_BUILD_SECONDS)


@pytest.fixture(scope="module")
def url(build: None) -> Iterator[str]:  # noqa: ARG001 it serves what was built
    """The API with its containers running."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [_SAM, "local", "start-api", "--port", str(port)],
        cwd=_ROOT,
        env=_ENVIRONMENT,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        yield address
    finally:
        process.send_signal(signal.SIGINT)  # it removes its containers
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _sam(*arguments: str, seconds: float = _START_SECONDS) -> str:
    """The result that a command of SAM prints."""
    ended = subprocess.run(
        [_SAM, *arguments],
        cwd=_ROOT,
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=seconds,
    )
    return ended.stdout


def _wait(url: str) -> None:
    """Waits until the API listens, which means that the containers run."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=_RETRIES), timeout=60) as client:
        client.get(f"{url}/v1/models/MLP")


@pytest.mark.usefixtures("build")
def test_layer_holds_what_releases_need_beside_boto3() -> None:
    layer = _ROOT / ".aws-sam/build/System/Release/ServingLayer/python"
    found = {path.name for path in layer.iterdir() if re.fullmatch(r"\w+", path.name)}
    assert found == {"google", "lambda_serving"}
    assert (layer / "lambda_serving/protos/messages.binpb").exists()


@pytest.mark.usefixtures("build")
def test_invoke_answers_the_event_of_the_readme() -> None:
    said = _sam("local", "invoke", "MLP/PredictFunction", "-e", "tests/data/events/predict.json")
    returned = json.loads(said.strip().splitlines()[-1])
    [row] = json.loads(returned["body"])["predictions"]
    assert (returned["statusCode"], row.index(max(row))) == (200, 7)


@pytest.mark.parametrize("case", _cases(), ids=attrgetter("name"))
def test_local_api_answers_as_the_table_says(case: Case, url: str) -> None:
    path = case.path.replace("half_plus_two", "HalfPlusTwo")
    answer = httpx.request(
        case.method, url + path, content=case.body, headers=dict(case.headers), timeout=60
    )
    check(case, answer.status_code, answer.headers, answer.content)


def test_both_models_tell_their_state_and_signatures(url: str) -> None:
    for model in ("MLP", "HalfPlusTwo"):
        status = httpx.get(f"{url}/v1/models/{model}", timeout=60).json()
        assert [each["state"] for each in status["model_version_status"]] == ["AVAILABLE"]
        metadata = httpx.get(f"{url}/v1/models/{model}/metadata", timeout=60).json()
        assert metadata["model_spec"]["name"] == model
        versioned = httpx.get(f"{url}/v1/models/{model}/versions/1", timeout=60)
        assert versioned.status_code == 200


def test_predicts_by_grpc_web_below_the_address_of_a_model(url: str) -> None:
    """Uses the text form: `sam local start-api` answers 502 to binary bodies of an HTTP API."""
    request = predict_request("HalfPlusTwo", {"x": [1, 2]}).SerializeToString()
    answer = httpx.post(
        f"{url}/v1/models/HalfPlusTwo/grpc-web{path_of('Predict')}",
        content=base64.b64encode(frame(request)),
        headers={"content-type": TEXT},
        timeout=60,
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, TEXT)
    assert outputs(base64.b64decode(answer.content, validate=True)) == {"y": [2.5, 3.0]}


def test_handbooks_clients_run_against_the_local_api(url: str, node_client: Path) -> None:
    target = f"{url}/v1/models/MLP:predict"
    python = [sys.executable, str(MNIST / "client.py"), "--url", target]
    said = subprocess.run(python, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("predicted [7 2 1 0 4 1 4 9 6 9]")
    node = ["node", str(node_client), str(MNIST / "digit.png"), "--url", target]
    said = subprocess.run(node, capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.search(r"\b5\b.*\b0\.9", said)
