"""Versions change under load, with real parts: registry, images in Docker, handlers, HTTP.

Only AWS has stand-ins: moto for S3, events, queue and API, `aws_plane` for Lambda's control plane,
and containers for its machines.
"""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from support import cloud, containers, front, load
from support.aws_plane import Plane
from support.cloud import Cloud
from support.containers import Environments
from support.grpc_web import BINARY, frame, outputs
from support.load import Answer
from support.rpc_client import path_of, predict_request
from support.server_process import COMMAND

_RATE, _LEAST_RATE = 60, 50
_PATH, _BODY = "/v1/models/half:predict", b'{"instances": [10.0]}'
_SOURCES = ("two_versions/1", "two_versions/2", "identity_float32/1")
_VERSIONS = {7.0: 1, 8.0: 2, 10.0: 3}  # by what they answer
_SECONDS = 60
_PHASE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Switch:
    """The alias was moved to a version, between these two times."""

    version: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class _Stack:
    cloud: Cloud
    environments: Environments
    port: int
    switches: list[_Switch]

    @property
    def base_path(self) -> str:
        return f"{self.cloud.models}/half"

    def push(self, source: Path, version: int) -> None:
        flags = "--no-check", "--allow-signature-change"  # the last one has other outputs
        self.command("push", *flags, source, f"{self.base_path}/{version}")

    def command(self, *arguments: str | Path) -> None:
        env = {**os.environ, "AWS_ACCESS_KEY_ID": "test"}  # and no role's, which runs meanwhile
        subprocess.run(
            [COMMAND, *arguments], env=env, check=True, capture_output=True, timeout=_SECONDS
        )

    def ask(self, path: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}/v1/models/half{path}"
        return httpx.post(url, content=_BODY, timeout=_SECONDS)

    def predict_by_grpc_web(self, place: str) -> dict[str, list[Any]]:
        url = f"http://127.0.0.1:{self.port}/v1/models/half{place}/grpc-web{path_of('Predict')}"
        body = frame(predict_request("half", {"x": [10]}).SerializeToString())
        headers = {"content-type": BINARY}
        return outputs(httpx.post(url, content=body, headers=headers, timeout=_SECONDS).content)

    def wait(self, until: Callable[[], bool]) -> None:
        deadline, pause = monotonic() + _SECONDS, threading.Event()
        while not until():
            assert monotonic() < deadline, self.cloud.plane.calls[-20:]
            pause.wait(0.02)

    def wait_for_switch_to(self, version: int) -> None:
        """Waits until the version is live and has had some load."""
        self.wait(lambda: bool(self.switches) and self.switches[-1].version == version)
        end = self.switches[-1].after + _PHASE_SECONDS
        self.wait(lambda: monotonic() > end)


@pytest.fixture
def stack(base: str, moto: str) -> Iterator[_Stack]:
    with (
        containers.scaled(most=2) as environments,
        cloud.running(Plane(run=environments.run), moto, access="OPEN") as deployed,
        front.running(deployed) as port,
    ):
        deployed.deploy_base(base)
        deployed.deploy_build()
        deployed.deploy_model("half", f"{base.partition('@')[0]}@sha256:template")
        with _watched(deployed) as switches, deployed.pumping():
            yield _Stack(deployed, environments, port, switches)


@contextmanager
def _watched(deployed: Cloud) -> Iterator[list[_Switch]]:
    """Records every request to Lambda to move the alias `live`."""
    switches: list[_Switch] = []
    began = 0.0

    def watch(operation: str, moment: str) -> None:
        nonlocal began
        if (operation, moment) == ("UpdateAlias", "before"):
            began = monotonic()
        elif operation == "UpdateAlias":
            version = deployed.live("half")
            if version and (not switches or switches[-1].version != version):
                switches.append(_Switch(version, began, monotonic()))

    deployed.plane.interfere = watch
    yield switches


def test_hot_update_under_load_loses_nothing_and_mixes_nothing(
    stack: _Stack, models_dir: Path
) -> None:
    first, second, third = (models_dir / source for source in _SOURCES)
    stack.command("set-policy", stack.base_path, "latest", "2")
    stack.push(first, 1)
    stack.wait_for_switch_to(1)
    with load.steady(stack.port, _PATH, _BODY, _RATE) as sent:
        stack.push(second, 2)
        stack.wait_for_switch_to(2)
        assert stack.ask("/versions/1:predict").json() == {"predictions": [7.0]}
        stack.command("label", stack.base_path, "stable=1")
        stack.wait(lambda: stack.ask("/labels/stable:predict").status_code == 200)
        assert stack.ask("/labels/stable:predict").json() == {"predictions": [7.0]}
        assert stack.predict_by_grpc_web("/labels/stable") == {"y": [7.0]}
        stack.push(third, 3)
        stack.wait_for_switch_to(3)
        assert stack.ask("/versions/2:predict").json() == {"predictions": [8.0]}
        stack.command("rollback", stack.base_path)
        stack.wait_for_switch_to(2)
    assert [switch.version for switch in stack.switches] == [1, 2, 3, 2]
    assert sent.failures() == []
    assert sent.rate() > _LEAST_RATE
    _check_order(sent.answers, stack.switches)


def _check_order(answers: Sequence[Answer], switches: Sequence[_Switch]) -> None:
    """While a version is live, it alone answers.

    While the alias moves, the old or the new version may answer.
    """
    seen: dict[int, set[int]] = {number: set() for number in range(len(switches))}
    for answer in answers:
        [prediction] = json.loads(answer.body)["predictions"]
        version = _VERSIONS[prediction]
        first = max(n for n, each in enumerate(switches) if each.after <= answer.began)
        last = max(n for n, each in enumerate(switches) if each.before <= answer.ended)
        if first == last:
            seen[first].add(version)
        else:
            assert version in {each.version for each in switches[first : last + 1]}, answer
    assert [*seen.values()] == [{each.version} for each in switches]
