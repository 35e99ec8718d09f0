"""The real handler under Lambda's runtime client: the conformance table once more."""

import json
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import httpx
import pytest

from support import emulator, events
from support.conformance import Case, check, load_cases
from support.grpc_web import BINARY, frame, outputs
from support.rpc_client import path_of, predict_request

_LABELS = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
_CASES = [case for case in load_cases() if not case.flags]  # flags are another environment's


@pytest.fixture(scope="module")
def url(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A function with all models of the table that load."""
    folder = tmp_path_factory.mktemp("emulator")
    config = folder / "models.config"
    models = sorted(path.name for path in models_dir.iterdir() if path.name != "warmup_fails")
    configs = [
        f'config {{ name: "{name}" base_path: "{models_dir}/{name}" model_platform: "tensorflow"'
        f" model_version_policy {{ all {{}} }} {_LABELS if name == 'two_versions' else ''} }}"
        for name in models
    ]
    config.write_text(f"model_config_list {{ {' '.join(configs)} }}")
    environment = {
        "MODEL_NAME": "half_plus_two",
        "MODEL_CONFIG_FILE": str(config),
        "CACHE_DIR": str(models_dir.parent),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
    }
    with emulator.running(environment) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    """A client whose first request waits for the emulator to listen and the function to start."""
    transport = httpx.HTTPTransport(retries=5)
    with httpx.Client(transport=transport, timeout=120) as client:
        event = {"path": "/v1/models/half_plus_two"}
        assert emulator.invoke(client, url, event)["statusCode"] == 200
        yield client


@pytest.mark.parametrize("case", _CASES, ids=attrgetter("name"))
def test_emulated_function_answers_as_the_table_says(
    case: Case, client: httpx.Client, url: str
) -> None:
    event = events.payload_2(case.method, case.path, case.headers, case.body)
    status, headers, body = events.answer(emulator.invoke(client, url, event))
    check(case, status, headers, b"" if case.method == "HEAD" else body)


def test_bytes_of_grpc_web_come_and_go_as_base64(client: httpx.Client, url: str) -> None:
    request = predict_request("half_plus_two", {"x": [1, 2]}).SerializeToString()
    path = f"/v1/models/half_plus_two/grpc-web{path_of('Predict')}"
    event = events.payload_2("POST", path, {"content-type": BINARY}, frame(request))
    returned = emulator.invoke(client, url, event)
    status, headers, body = events.answer(returned)
    assert event["isBase64Encoded"]
    assert returned["isBase64Encoded"]
    assert (status, headers["content-type"]) == (200, BINARY)
    assert outputs(body) == {"y": [2.5, 3.0]}


def test_direct_invoke_gets_the_bare_document(client: httpx.Client, url: str) -> None:
    assert emulator.invoke(client, url, {"instances": [1.0]}) == {"predictions": [2.5]}
    assert emulator.invoke(client, url, {"instances": [1e39]}) == {"predictions": [None]}
    assert emulator.invoke(client, url, [1])["error"].endswith("but a JSON list")


def test_slow_graph_is_504_before_lambdas_end_and_the_environment_lives(
    models_dir: Path, tmp_path: Path
) -> None:
    environment = {
        "MODEL_NAME": "while_loop",
        "MODEL_BASE_PATH": str(models_dir / "while_loop"),
        "CACHE_DIR": str(models_dir.parent),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "15",  # the load counts, too
    }
    path = "/v1/models/while_loop:predict"
    endless = {"path": path, "body": {"inputs": [2**63 - 1]}}
    with (tmp_path / "log").open("wb") as log, emulator.running(environment, log) as url:
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(transport=transport, timeout=120) as client:
            assert emulator.invoke(client, url, {"inputs": [5]}) == {"outputs": [8]}
            assert emulator.invoke(client, url, endless)["statusCode"] == 504
            assert emulator.invoke(client, url, {"inputs": [9]}) == {"outputs": [16]}
    lines = (tmp_path / "log").read_text().splitlines()
    colds = [json.loads(line)["ColdStart"] for line in lines if '"ColdStart"' in line]
    assert colds == [[1.0], [0.0], [0.0]]  # one process
