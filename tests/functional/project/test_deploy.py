"""`deploy` calls the user's sam, and says how the models are called. A program stands for sam."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from lambda_serving.cli.deploy import deploy
from lambda_serving.project.starting import starter_template
from lambda_serving.project.template import with_block
from support import commands, front
from support.cloud import SYSTEM
from support.deployed_project import Deployed, make_project, url
from support.server_process import COMMAND, until

_CONFIG = f"""
[dev.deploy.parameters]
stack_name = "{SYSTEM}"
[prod.deploy.parameters]
stack_name = "{SYSTEM}"
region = "eu-west-1"
parameter_overrides = ["Access=OPEN", "Runtime=litert"]
"""
_BASE = url("MLP").partition("/v1")[0]
_SAM = """#!/bin/sh
if [ "$1" = --version ]; then echo "SAM CLI, version 1.170.0"; exit; fi
echo "$PWD $*" >> "{log}"
echo "sam says $1"
[ "$1" != "$FAILS" ]
"""


@pytest.fixture
def calls(deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the current folder, and a file of what sam was called with, a line each."""
    del deployed
    project, log = tmp_path / "mine", tmp_path / "calls"
    make_project(project, _CONFIG)
    (project / "models/MLP/1").mkdir(parents=True)
    monkeypatch.chdir(project / "models")
    sam = tmp_path / "bin/sam"
    sam.parent.mkdir()
    sam.write_text(_SAM.format(log=log))
    sam.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sam.parent}:/usr/bin:/bin")
    return log


def _give_golden(calls: Path, request: Any) -> None:
    """Gives the model MLP a golden pair with that request."""
    golden = calls.parent / "mine/models/MLP/1/assets.extra/golden.jsonl"
    golden.parent.mkdir()
    golden.write_text(json.dumps({"request": request, "response": {}}))


def _deploy(*arguments: str, **environment: str) -> tuple[int, str, str]:
    return commands.run(deploy, arguments, environment)


def _called(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_environment_is_built_and_deployed_in_the_projects_folder(calls: Path) -> None:
    code, said, _ = _deploy("--env=prod", "--yes", "--", "--no-rollback")
    assert code == 0
    place = f"{calls.parent / 'mine'}"
    region = "--region=eu-west-1"
    overrides = "--parameter-overrides Access=OPEN Runtime=litert"
    assert _called(calls) == [
        f"{place} build --config-env=default {region} {overrides}",
        f"{place} deploy --config-env=prod {region} --no-confirm-changeset --no-rollback",
    ]
    assert f"Stack {SYSTEM} is UPDATE_COMPLETE" in said
    assert f"MLP: {url('MLP')}" in said
    assert "DashboardUrl: https://dashboard.example" in said
    assert "MLPPredictUrl" not in said  # it is above


def test_dev_is_the_default_and_asks(calls: Path) -> None:
    assert _deploy()[0] == 0
    assert [line.split(" ", 1)[1] for line in _called(calls)] == [
        "build --config-env=default",
        "deploy --config-env=dev",
    ]


@pytest.mark.parametrize(
    ("access", "line"),
    [
        ("OPEN", f"curl -d '{{\"instances\": [1.0]}}' {url('MLP')}"),
        (
            "JWT",
            f'curl -H "Authorization: Bearer $TOKEN" -d \'{{"instances": [1.0]}}\' {url("MLP")}',
        ),
        (
            "IAM",
            f"lambda-serving predict MLP '{{\"instances\": [1.0]}}' --url {_BASE} --profile work",
        ),
    ],
)
def test_line_to_call_a_model_is_the_one_for_its_access(
    deployed: Deployed, calls: Path, access: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = calls.parent / "aws"
    config.write_text("[profile work]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    _give_golden(calls, {"instances": [1.0]})
    [system] = [each for each in deployed.stacks.stacks if "System" in each.name]
    system.parameters = {"Access": access}
    code, said, _ = _deploy(*(["--profile=work"] if access == "IAM" else []))
    assert code == 0
    assert f"  {line}\n" in said


@pytest.mark.parametrize("access", ["OPEN", "JWT"])
def test_line_to_call_a_model_is_answered(
    deployed: Deployed, calls: Path, access: Literal["OPEN", "JWT"]
) -> None:
    """The API is that of `support.front`, which refuses callers without a token."""
    cloud, sent = deployed.cloud, list[str]()

    def answer(_: str, event: Any, __: str) -> Any:
        sent.append(event["body"])
        return {"statusCode": 200, "body": "answered", "isBase64Encoded": False}

    cloud.access = access
    cloud.plane.run = answer
    cloud.deploy_model("MLP", "image@sha256:1")
    _give_golden(calls, {"instances": [0.5] * 784})
    [system] = [each for each in deployed.stacks.stacks if "System" in each.name]
    system.parameters = {"Access": access}
    [mlp] = [each for each in deployed.stacks.stacks if each.parameters.get("ModelName") == "MLP"]
    with front.running(cloud) as port:
        mlp.outputs = {"PredictUrl": f"http://127.0.0.1:{port}/v1/models/MLP:predict"}
        code, said, _ = _deploy()
        assert code == 0
        [line] = [line for line in said.splitlines() if line.startswith("  ") and "MLP" in line]
        token = front.token()["authorization"].removeprefix("Bearer ")
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        answered = [
            subprocess.check_output(
                ["/bin/sh", "-euc", line], env={"PATH": path, "TOKEN": each}, text=True
            )
            for each in (token, "none")
        ]
    assert answered[0] == "answered"
    assert (answered[1] == "answered") == (access == "OPEN")
    assert json.loads(sent[0]) == {"instances": [0.5] * 784}


def test_addresses_are_json_apart_from_what_sam_says(
    calls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = _deploy("--json")
    assert code == 0
    assert len(_called(calls)) == 2
    found = json.loads(said)
    assert found["models"] == {"CNN": url("CNN"), "MLP": url("MLP")}
    assert (found["stack"], found["access"]) == (SYSTEM, "OPEN")
    assert "sam says" not in capfd.readouterr().out


@pytest.mark.parametrize(("fails", "count"), [("build", 1), ("deploy", 2)])
def test_failure_of_sam_ends_it(calls: Path, fails: str, count: int) -> None:
    code, said, reason = _deploy(FAILS=fails)
    assert (code, "Stack" in said) == (1, False)
    assert f"`sam {fails}` failed with exit code 1" in reason
    assert len(_called(calls)) == count


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--env=staging"], 1, "has no environment 'staging'. It has: dev, prod"),
        (["--profile=nobody"], 1, "nobody"),
    ],
)
def test_mistakes_are_said_before_anything_is_built(
    calls: Path, arguments: list[str], code: int, reason: str
) -> None:
    got, _, said = _deploy(*arguments)
    assert (got, reason in said) == (code, True)
    assert _called(calls) == []


def test_without_sam_nothing_is_built(calls: Path) -> None:
    (calls.parent / "bin/sam").unlink()
    code, _, said = _deploy()
    assert code == 1
    assert "pipx install" in said


def test_ctrl_c_ends_sam_too(calls: Path) -> None:
    """It gets SIGTERM: from a terminal it would get SIGINT as well."""
    sam = calls.parent / "bin/sam"
    told = f'trap \'echo ended >> "{calls}"; exit 1\' TERM\necho begun >> "{calls}"\n'
    version = 'if [ "$1" = --version ]; then echo "SAM CLI, version 1.170.0"; exit; fi\n'
    sam.write_text(f"#!/bin/sh\n{version}{told}while :; do read -r _; done < {calls.parent}/wait\n")
    os.mkfifo(calls.parent / "wait")
    writer = os.open(calls.parent / "wait", os.O_RDWR)  # so that sam waits for a line
    try:
        with subprocess.Popen([COMMAND, "deploy"], stderr=subprocess.PIPE, text=True) as process:
            until(lambda: _called(calls) == ["begun"])
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=300)
    finally:
        os.close(writer)
    assert (process.returncode, said) == (130, "")
    assert _called(calls) == ["begun", "ended"]


def test_outside_a_project_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = _deploy()
    assert code == 2
    assert "lambda-serving init DIR" in said


def test_folder_of_a_model_that_is_not_there_is_said_before_anything_is_built(calls: Path) -> None:
    template = with_block(starter_template(), "MLP", "models/MPL")
    (calls.parent / "mine/template.yaml").write_text(template)
    code, _, said = _deploy()
    assert code == 1
    assert (
        "says ModelFolder models/MPL, but there is no such folder. Did you mean models/MLP?" in said
    )
    assert _called(calls) == []
