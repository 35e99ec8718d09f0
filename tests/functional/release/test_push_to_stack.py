"""`push` to a deployed stack: what it checks before, and what it waits for afterwards."""

import copy
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from lambda_serving import protos
from lambda_serving.cli.push import push
from lambda_serving.cli.set_policy import set_policy
from lambda_serving.cli.status import status
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.aws.events import Reporter
from lambda_serving.release.build.handler import build
from lambda_serving.servables import graph_defs
from support import cloud, commands
from support.aws_plane import Plane
from support.cloud import SYSTEM, Cloud
from support.server_process import COMMAND, MNIST

_REPOSITORY = "registry/models"
_BAD_VERSION = "66"


def _metadata(export: Path) -> dict[str, Any]:
    """What a function of the model answers for its metadata."""
    [graph] = graph_defs.meta_graphs(export) or []
    found = protos.message("tensorflow.serving.SignatureDefMap")()
    for name, definition in graph.signature_def.items():
        found.signature_def[name].CopyFrom(definition)
    return {"metadata": {"signature_def": MessageToDict(found)}}


def _changed(metadata: dict[str, Any]) -> dict[str, Any]:
    """The same, with other shapes in one signature."""
    changed = copy.deepcopy(metadata)
    signature = changed["metadata"]["signature_def"]["signatureDef"]["serving_default"]
    signature["inputs"]["x"]["tensorShape"] = {"dim": [{"size": "-1"}, {"size": "2"}]}
    signature["outputs"]["y"]["tensorShape"] = {}
    return changed


class _Images:
    """Builds as the build function does, but an image is only the number of its version."""

    elsewhere = False

    def build(self, order: Order) -> str:
        return f"sha256:{order.version}"


class _Stack:
    """The model MLP; `metadata` is what its function tells of the version that is live."""

    def __init__(self, deployed: Cloud, metadata: dict[str, Any]) -> None:
        self.cloud, self.metadata = deployed, metadata
        self.base_path = f"{deployed.models}/MLP"

    def run(self, image: str, event: Any, _: str) -> Any:
        if event["path"].endswith("/metadata"):
            return {"statusCode": 200, "body": self.metadata}
        if image.endswith(f":{_BAD_VERSION}"):
            return {"statusCode": 500, "body": {"error": "boom"}}
        return {"statusCode": 200, "body": {}}

    def push(self, source: Path, version: object, *flags: str) -> tuple[int, str, str]:
        return commands.run(push, [str(source), f"{self.base_path}/{version}", *flags], {})

    def keys(self, version: int) -> list[str]:
        found = self.cloud.s3.list_objects_v2(
            Bucket=self.cloud.bucket, Prefix=f"models/MLP/{version}/"
        )
        return [each["Key"] for each in found.get("Contents", [])]


@pytest.fixture
def stack(moto: str, half: Path) -> Iterator[_Stack]:
    plane = Plane()
    with cloud.running(plane, moto) as deployed:
        made = _Stack(deployed, _metadata(half))
        plane.run = made.run
        deployed.hurried = True
        deployed.deploy_base(f"{_REPOSITORY}@sha256:base")
        deployed.deploy_model("MLP", f"{_REPOSITORY}@sha256:template")

        def run(_: str, event: Any, __: str) -> None:
            releases = BucketReleases(made.base_path, deployed.s3)
            build(Order.of(event), _Images(), releases, Reporter(SYSTEM, deployed.events))

        plane.add(f"{SYSTEM}_build", "build", alias=False, run=run)
        deployed.repair("MLP")
        deployed.settle()  # the function has started: that sets credentials for the whole process
        yield made


@pytest.fixture
def half(models_dir: Path) -> Path:
    return models_dir / "two_versions/1"


def test_push_ends_when_the_version_is_live(stack: _Stack, half: Path) -> None:
    with stack.cloud.pumping():
        code, told, said = stack.push(half, 1, "--wait")
    assert (code, told[-18:]) == (0, "Version 1 is live\n"), said
    assert stack.cloud.live("MLP") == 1
    code, told, _ = stack.push(half, 1, f"--stack={SYSTEM}", "--wait", "--timeout=0")
    assert (code, "Nothing to do" in told, told.splitlines()[-1]) == (0, True, "Version 1 is live")


def test_push_says_why_the_version_failed(stack: _Stack, half: Path) -> None:
    with stack.cloud.pumping():
        code, _, said = stack.push(half, _BAD_VERSION, "--wait")
    reason = stack.cloud.record("MLP", int(_BAD_VERSION))["error"]
    assert "boom" in reason
    assert (code, said.splitlines()[-1]) == (4, f"Version 66 is not live: {reason}")


def test_push_gives_up_when_the_time_is_up(stack: _Stack, half: Path) -> None:
    code, told, said = stack.push(half, 1, "--wait", "--timeout=0")
    assert (code, "pushed " in told) == (3, True)
    assert said.splitlines()[-1] == (
        "Version 1 is not live after 0 s. Build the image of version 1. The release goes on; see"
        f" lambda-serving status {stack.base_path}"
    )


def test_push_ends_when_somebody_else_chooses_another_version(stack: _Stack, half: Path) -> None:
    assert stack.push(half, 1)[0] == 0
    assert commands.run(set_policy, [stack.base_path, "specific", "2"], {})[0] == 0
    code, _, said = stack.push(half, 1, "--wait", "--stack", SYSTEM)
    assert (code, "would not be released" in said) == (1, True)


def test_version_that_would_not_be_released_is_not_pushed(stack: _Stack, half: Path) -> None:
    assert stack.push(half, 5)[0] == 0
    code, told, said = stack.push(half, 4)
    assert (code, told, stack.keys(4)) == (1, "", [])
    assert (
        "would not be released: its policy is latest 1, which asks for these versions: 5." in said
    )
    assert stack.push(half, 4, "--no-check")[0] == 0


@pytest.mark.parametrize(
    ("model", "flags", "reason"),
    [
        ("nobody", [], f"Stack {SYSTEM} serves no model nobody by a function"),
        ("MLP", ["--stack=nowhere"], "asked about stack nowhere"),
        ("sub/MLP", [], f"The models of stack {SYSTEM} are in "),
    ],
)
def test_model_that_no_stack_serves_is_not_pushed(
    stack: _Stack, half: Path, model: str, flags: list[str], reason: str
) -> None:
    place = f"{stack.cloud.models}/{model}/1"
    code, told, said = commands.run(push, [str(half), place, *flags], {})
    assert (code, told) == (1, "")
    assert reason in said
    assert commands.run(push, [str(half), place, "--no-check"], {})[0] == 0


_CHANGE = [
    "  signature serving_default",
    "  ~ input x: shape [n, 2] -> [n]",
    "  ~ output y: shape [] -> [n]",
]
_ADVICE = "If callers are ready for that, push with --allow-signature-change"


def test_first_version_is_compared_with_that_of_the_template(stack: _Stack, half: Path) -> None:
    stack.metadata = _changed(stack.metadata)
    code, _, said = stack.push(half, 1)
    head = "Error: The signatures are not those of the template's version, which is live:"
    assert (code, said.splitlines()[-5:]) == (1, [head, *_CHANGE, _ADVICE])
    assert stack.keys(1) == []
    assert stack.push(half, 1, "--allow-signature-change")[0] == 0


def test_later_version_is_compared_with_the_files_of_the_live_one(
    stack: _Stack, half: Path
) -> None:
    with stack.cloud.pumping():
        assert stack.push(half, 1, "--wait")[0] == 0
    stack.metadata = {}  # nobody asks for it
    assert stack.push(half, 2)[0] == 0
    code, _, said = stack.push(MNIST / "saved/1", 3)
    assert (code, said.splitlines()[-1]) == (1, _ADVICE)
    assert "Error: The signatures are not those of version 1, which is live:\n" in said
    assert "  + input keras_tensor: float [n, 28, 28, 1]\n" in said


def test_live_version_without_files_is_asked_itself(stack: _Stack, half: Path) -> None:
    with stack.cloud.pumping():
        assert stack.push(half, 1, "--wait")[0] == 0
    for key in stack.keys(1):
        stack.cloud.s3.delete_object(Bucket=stack.cloud.bucket, Key=key)
    stack.metadata = _changed(stack.metadata)
    code, _, said = stack.push(half, 2)
    head = "Error: The signatures are not those of version 1, which is live:"
    assert (code, said.splitlines()[-5:]) == (1, [head, *_CHANGE, _ADVICE])


def test_live_version_that_does_not_answer_is_told(stack: _Stack, half: Path) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("out of memory")

    stack.cloud.plane.functions[f"{SYSTEM}-MLP"].run = fail
    code, _, said = stack.push(half, 1)
    reason = "The signatures of the template's version, which is live, cannot be compared: out of"
    assert (code, said.splitlines()[-1]) == (1, f"Error: {reason} memory. {_ADVICE}")
    assert stack.push(half, 1, "--allow-signature-change")[0] == 0


def test_status_reads_well_at_60_columns(stack: _Stack, half: Path) -> None:
    for version in (65, _BAD_VERSION):
        assert stack.push(half, version)[0] == 0
        stack.cloud.settle()
    arguments = [stack.base_path, f"--stack={SYSTEM}"]
    code, said, _ = commands.run(status, arguments, {"COLUMNS": "60"})
    reason = stack.cloud.record("MLP", int(_BAD_VERSION))["error"]
    assert code == 0
    assert [line for line in said.splitlines() if len(line) > 60] == []
    assert f"error {reason}" in " ".join(said.split())
    assert "version 65\n  state             AVAILABLE\n  traffic           live\n" in said
    code, told, _ = commands.run(status, [*arguments, "--json"], {})
    document = json.loads(told)
    assert (code, document["ignored"], document["next"]) == (0, [], None)
    failed, live = document["versions"]
    assert {name: live[name] for name in ("version", "state", "traffic", "labels", "error")} == {
        "version": 65,
        "state": "AVAILABLE",
        "traffic": "all",
        "labels": [],
        "error": None,
    }
    assert (failed["state"], failed["error"], failed["traffic"]) == ("FAILED", reason, "none")


def test_ctrl_c_ends_the_wait(stack: _Stack, half: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "push", half, f"{stack.base_path}/1", "--wait"],
        env=os.environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert process.stdout
        assert "pushed " in process.stdout.readline()
        while "Build the image of version 1" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
