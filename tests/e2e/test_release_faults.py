"""Releases go wrong at every step, with real parts, and the model answers all the while.

The parts are those of `test_hot_update.py`. During each test, a client sends the model a request
every few milliseconds. All tests start with versions 1 and 2 released.
"""

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from lambda_serving.config.servable_version_policy import Specific
from lambda_serving.errors import AlreadyExists, Unavailable
from lambda_serving.release import handler as release_handler
from lambda_serving.release.aws.policy_file import PolicyFile
from lambda_serving.release.aws.stack import Clients, System
from lambda_serving.release.deciding.next_step_of_version import BUILD_SECONDS
from lambda_serving.release.golden import GOLDEN
from lambda_serving.release.handler import Worker
from lambda_serving.release.push import push
from lambda_serving.servables import saved_model
from lambda_serving.store.manifest import MANIFEST, File, Found, Manifest
from lambda_serving.store.s3_push_target import S3Version
from support import cloud, containers, front, load, tcp_proxy
from support.aws_plane import Function, Plane, Refused
from support.cloud import SYSTEM, Cloud
from support.containers import Environments
from support.tcp_proxy import Proxy
from support.worker_process import Killed, WorkerProcess

_RATE = 50
_PATH, _BODY = "/v1/models/half:predict", b'{"instances": [10.0]}'
_ONE, _TWO, _OTHER = "two_versions/1", "two_versions/2", "identity_float32/1"
_ANSWERS = {_ONE: 7.0, _TWO: 8.0, _OTHER: 10.0}
_SECONDS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class _World:
    cloud: Cloud
    environments: Environments
    port: int
    proxy: Proxy
    models: Path
    worker: Worker
    failures: str
    """A queue with EventBridge's events about failed versions."""

    @property
    def plane(self) -> Plane:
        return self.cloud.plane

    @property
    def function(self) -> Function:
        return self.plane.functions[f"{SYSTEM}-half"]

    @property
    def base_path(self) -> str:
        return f"{self.cloud.models}/half"

    @property
    def live(self) -> int | None:
        return self.cloud.live("half")

    def folder(self, version: int) -> S3Version:
        return S3Version(f"{self.base_path}/{version}", self.cloud.s3)

    def push(self, name: str, version: int, folder: Any = None) -> None:
        load_it = partial(saved_model.load, cache=self.models.parent)
        push(self.models / name, folder or self.folder(version), load_it)

    def put(self, source: Path, version: int) -> None:
        """Uploads a complete version without checking it."""
        for path in filter(Path.is_file, source.rglob("*")):
            self._put_object(version, str(path.relative_to(source)), path.read_bytes())
        self._put_object(version, MANIFEST, Manifest.of(source).to_json())

    def _put_object(self, version: int, name: str, body: bytes) -> None:
        key = f"models/half/{version}/{name}"
        self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=key, Body=body)

    def forget(self, version: int) -> None:
        """Deletes the record of a version, so that it is built again."""
        key = f"models/_releases/half/{version}.json"
        self.cloud.s3.delete_object(Bucket=self.cloud.bucket, Key=key)

    def wish(self, *versions: int, **labels: int) -> None:
        policy = Specific(frozenset(versions))
        PolicyFile(self.base_path, self.cloud.s3).change(
            lambda model: dataclasses.replace(model, policy=policy, labels=labels)
        )

    def change_all(self) -> int:
        """Changes settings, image and address, so that a release takes every step."""
        self.function.latest.memory += 1
        image = self.function.latest.image.partition("@")[2]
        version = 2 if image == self.cloud.record("half", 1)["image"] else 1
        self.wish(version, **{self._label: version})
        return version

    def check_all(self, version: int) -> None:
        assert self.live == version
        assert self.function.aliases.keys() == {"live", f"label-{self._label}"}
        assert len({each.function_version for each in self.function.aliases.values()}) == 1
        assert self.ask() == self.ask(f"/labels/{self._label}") == 6.0 + version
        assert len(self.function.versions) == 3  # the template's, this one, and the one before

    @property
    def _label(self) -> str:
        return f"change{self.function.latest.memory}"

    def settle(self, version: int | None = None) -> None:
        """Waits until nothing is left to do and that version is live."""
        self.cloud.settle(lambda: version in {None, self.live})

    def ask(self, place: str = "") -> float:
        url = f"http://127.0.0.1:{self.port}/v1/models/half{place}:predict"
        [prediction] = httpx.post(url, content=_BODY, timeout=_SECONDS).json()["predictions"]
        return float(prediction)

    def told(self) -> list[tuple[int, str]]:
        """The failed versions that were reported to the event bus, with the reasons."""
        received = self.cloud.sqs.receive_message(QueueUrl=self.failures, MaxNumberOfMessages=10)
        found = [json.loads(each["Body"])["detail"] for each in received.get("Messages", [])]
        for each in received.get("Messages", []):
            self.cloud.sqs.delete_message(
                QueueUrl=self.failures, ReceiptHandle=each["ReceiptHandle"]
            )
        assert all((each["system"], each["model"]) == (SYSTEM, "half") for each in found)
        return [(each["version"], each["error"]) for each in found]

    def check_failed(self, version: int, error: str) -> None:
        """Checks that the failure is recorded and reported, and that it stays."""
        record = self.cloud.record("half", version)
        assert record["state"] == "FAILED"
        assert error in record["error"]
        assert self.told() == [(version, record["error"])]
        self.cloud.repair("half")
        self.settle()
        assert self.cloud.record("half", version) == record
        assert (self.live, self.told()) == (2, [])


@pytest.fixture(scope="module")
def released(base: str, moto: str, models_dir: Path) -> Iterator[_World]:
    """Versions 1 and 2, released one after the other; waiting takes no time."""
    host, _, image = base.partition("/")
    with (
        containers.scaled(most=1) as environments,
        tcp_proxy.running(host) as proxy,
        cloud.running(Plane(run=environments.run), moto, access="OPEN") as deployed,
        front.running(deployed) as port,
    ):
        deployed.hurried = True
        deployed.deploy_base(f"{proxy.address}/{image}")
        deployed.deploy_build()
        deployed.deploy_model("half", f"{proxy.address}/models@sha256:template")
        failures = _queue_of_failures(deployed)
        deployed.handler = handler = release_handler.start(deployed.environment)
        world = _World(deployed, environments, port, proxy, models_dir, handler, failures)
        world.wish(1, 2)
        for version, name in ((1, _ONE), (2, _TWO)):
            world.push(name, version)
            world.settle(version)
        yield world


def _queue_of_failures(deployed: Cloud) -> str:
    url: str = deployed.sqs.create_queue(QueueName="failures")["QueueUrl"]
    found = deployed.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    target = {"Id": "failures", "Arn": found["Attributes"]["QueueArn"]}
    pattern = json.dumps({"source": ["lambda-serving"]})
    deployed.events.put_rule(Name="failures", EventPattern=pattern, State="ENABLED")
    deployed.events.put_targets(Rule="failures", Targets=[target])
    return url


@pytest.fixture
def world(released: _World) -> Iterator[_World]:
    """The stack under load; repaired after the test."""
    plane, build = released.plane, released.plane.functions[f"{SYSTEM}_build"]
    runs = released.function.run, build.run
    with load.steady(released.port, _PATH, _BODY, _RATE) as sent:
        yield released
        plane.interfere = lambda _, __: None
        released.function.run, build.run = runs
        released.proxy.is_cut = lambda _: False
        released.cloud.handler, released.cloud.visibility_seconds = released.worker, None
        released.cloud.build_errors.clear()
        released.settle()
    assert sent.failures() == []
    answers = {json.loads(answer.body)["predictions"][0] for answer in sent.answers}
    assert answers <= {*_ANSWERS.values()}


_CALLS = (
    "UpdateFunctionCode",
    "PublishVersion",
    "Invoke",
    "CreateAlias",
    "AddPermission",
    "UpdateAlias",
    "DeleteAlias",
    "DeleteFunction",
)


def _kill_at(world: _World, operation: str, *moments: str) -> None:
    """Runs the release function as a process, killed before or after that call takes effect."""
    process, left = WorkerProcess(world.cloud.environment), list(moments)

    def kill(called: str, when: str) -> None:
        if called == operation and [when] == left[:1]:
            left.pop(0)
            process.kill()
            if when == "before":
                raise Refused(500, "ServiceException", "nobody will read this")

    world.plane.interfere = kill
    world.cloud.handler, world.cloud.visibility_seconds = process, 1


@pytest.mark.parametrize("operation", _CALLS)
def test_killed_worker_is_made_good_by_the_next(operation: str, world: _World) -> None:
    """The next one gets the message once it is visible again, or the hourly one."""
    _kill_at(world, operation, "before", "after")
    version = world.change_all()
    for _ in range(2):
        with pytest.raises(Killed, match="exit code -9"):
            world.settle()
    world.cloud.lose()
    world.cloud.repair("half")
    world.cloud.handler = world.worker
    world.settle()
    world.check_all(version)


_BROKEN = (500, "ServiceException", "internal error")
_THROTTLED = (429, "TooManyRequestsException", "Rate Exceeded.")


@pytest.mark.parametrize(
    ("operation", "moment", "refusal", "times"),
    [
        ("UpdateFunctionCode", "after", _BROKEN, 1),
        ("PublishVersion", "after", _BROKEN, 1),
        ("Invoke", "before", _THROTTLED, 3),
        ("CreateAlias", "after", _BROKEN, 1),
        ("AddPermission", "after", _BROKEN, 1),
        ("UpdateAlias", "before", _BROKEN, 4),  # after which boto3 gives up
        ("UpdateAlias", "after", _BROKEN, 1),
        ("DeleteFunction", "after", _BROKEN, 3),
    ],
)
def test_call_of_aws_that_fails_is_made_again(
    operation: str, moment: str, refusal: tuple[int, str, str], times: int, world: _World
) -> None:
    """Losing an answer does no harm, either."""
    left = [refusal] * times

    def fail(called: str, when: str) -> None:
        if (called, when) == (operation, moment) and left:
            raise Refused(*left.pop())

    world.plane.interfere = fail
    version = world.change_all()
    world.settle()
    assert left == []
    world.check_all(version)


def test_events_that_come_twice_and_in_another_order_change_nothing(world: _World) -> None:
    world.change_all()
    version = world.change_all()
    bodies = world.cloud.lose()
    assert len(bodies) == 2
    for number, body in enumerate([*reversed(bodies), *bodies]):
        world.cloud.sqs.send_message(
            QueueUrl=world.cloud.queue_url,
            MessageBody=body,
            MessageGroupId="half",
            MessageDeduplicationId=str(number),
        )
        world.cloud.pump()
    world.settle()
    world.check_all(version)


def test_events_that_are_lost_are_made_good_once_an_hour(world: _World) -> None:
    before, version = world.live, world.change_all()
    assert len(world.cloud.lose()) == 1
    world.settle()
    assert world.live == before
    world.cloud.repair("half")
    world.settle()
    world.check_all(version)


def test_worker_that_is_killed_while_an_image_is_built_is_not_needed(world: _World) -> None:
    world.wish(1, 2)
    world.settle(2)
    before = world.cloud.record("half", 2)["image"]
    _kill_at(world, "Invoke", "after")
    world.forget(2)
    with pytest.raises(Killed):
        world.settle()
    world.cloud.handler = world.worker
    world.settle()
    record = world.cloud.record("half", 2)
    assert (world.live, record["state"], record["image"]) == (2, "AVAILABLE", before)


class _BreaksOff(S3Version):
    """A push that ends before its last file."""

    def put(self, source: Path, files: Mapping[str, File], sent: Callable[[int], None]) -> None:
        some = list(files)[:-1]
        super().put(source, {name: files[name] for name in some}, sent)
        raise Unavailable("the network is gone")


def test_push_that_is_broken_off_is_released_when_it_is_completed(world: _World) -> None:
    world.wish(1, 2, 3)
    with pytest.raises(Unavailable, match="the network is gone"):
        world.push(_OTHER, 3, _BreaksOff(f"{world.base_path}/3", world.cloud.s3))
    world.cloud.repair("half")
    world.settle()
    assert world.live == 2
    world.push(_OTHER, 3)
    world.settle(3)
    assert (world.ask(), world.ask("/versions/2")) == (10.0, 8.0)


def test_corrupt_model_is_recorded_and_told_and_not_built_again(
    world: _World, tmp_path: Path
) -> None:
    shutil.copytree(world.models / _ONE, tmp_path / "4")
    (tmp_path / "4/saved_model.pb").write_bytes(b"garbage")
    world.wish(1, 2, 4)
    world.put(tmp_path / "4", 4)
    world.settle()
    world.check_failed(4, "saved_model.pb")


def test_model_that_crashes_when_it_is_loaded_is_recorded_and_told(world: _World) -> None:
    world.wish(1, 2, 5)
    world.put(world.models / "warmup_fails/1", 5)
    world.settle()
    world.check_failed(5, "Warm-up record 0")


def test_model_that_hangs_is_ended_by_lambda_and_recorded_and_told(
    world: _World, tmp_path: Path
) -> None:
    """The loop never ends: powers of two overflow before they get that large."""
    world.function.run = partial(_run_impatiently, world.environments)
    export = _with_golden(world.models / "while_loop/1", tmp_path / "6", 2**63 - 1, 0)
    world.wish(1, 2, 6)
    world.put(export, 6)
    world.settle()
    world.check_failed(6, "It does not answer: Task timed out after 5.00 seconds")


def _run_impatiently(environments: Environments, image: str, event: Any, qualifier: str) -> Any:
    """Releases invoke by function versions, others by aliases."""
    seconds = 5 if qualifier.isdecimal() else _SECONDS
    return environments.run(image, event, qualifier, seconds)


def test_model_with_wrong_answers_is_recorded_and_reported(world: _World, tmp_path: Path) -> None:
    export = _with_golden(world.models / _ONE, tmp_path / "7", 10.0, 70.0)
    world.wish(1, 2, 7)
    world.put(export, 7)
    world.settle()
    world.check_failed(7, "predictions[0] is 7.0, expected 70.0")


def _with_golden(source: Path, export: Path, instance: float, prediction: float) -> Path:
    shutil.copytree(source, export)
    pair = {"request": {"instances": [instance]}, "response": {"predictions": [prediction]}}
    (export / GOLDEN).parent.mkdir(exist_ok=True)
    (export / GOLDEN).write_text(json.dumps(pair))
    return export


def test_two_versions_that_are_pushed_at_once_are_both_released(world: _World) -> None:
    world.wish(1, 2, 8, 9)
    with ThreadPoolExecutor(2) as pool:
        pushed = [pool.submit(world.push, *each) for each in ((_ONE, 8), (_OTHER, 9))]
        world.settle(9)
    assert [each.result() for each in pushed] == [None, None]
    world.settle(9)
    assert (world.ask(), world.ask("/versions/8")) == (10.0, 7.0)


class _Together(S3Version):
    """Two pushes that find nothing there; one at a time writes, because moto may accept both."""

    def __init__(self, uri: str, client: Any, both: threading.Barrier, lock: Any) -> None:
        super().__init__(uri, client)
        self._both, self._lock = both, lock

    def look(self) -> Found:
        found = super().look()
        self._both.wait(_SECONDS)
        return found

    def put_manifest(self, name: str, manifest: Manifest) -> Manifest:
        with self._lock:
            return super().put_manifest(name, manifest)


def test_one_of_two_pushes_of_a_version_is_released_and_the_other_refused(world: _World) -> None:
    both, lock = threading.Barrier(2), threading.Lock()
    world.wish(1, 2, 10)
    with ThreadPoolExecutor(2) as pool:
        pushes = {
            name: pool.submit(
                world.push,
                name,
                10,
                _Together(f"{world.base_path}/10", world.cloud.s3, both, lock),
            )
            for name in (_ONE, _OTHER)
        }
    errors = {name: pushed.exception() for name, pushed in pushes.items()}
    [released] = [name for name, error in errors.items() if error is None]
    [refused] = [error for error in errors.values() if error]
    assert isinstance(refused, AlreadyExists)
    world.settle(10)
    assert world.ask() == _ANSWERS[released]


def test_registry_that_hangs_up_is_asked_again_by_the_next_try_of_lambda(world: _World) -> None:
    errors = world.cloud.build_errors
    world.proxy.is_cut = lambda sent: sent > 3000 and not errors
    world.wish(1, 2, 11)
    world.push(_OTHER, 11)
    world.settle(11)
    [error] = errors
    assert isinstance(error, Unavailable)
    assert world.proxy.cuts >= 5
    assert world.ask() == 10.0
    assert world.told() == []


def test_build_that_never_ends_is_asked_for_again(world: _World) -> None:
    world.wish(1, 2)
    world.settle(2)
    build = world.plane.functions[f"{SYSTEM}_build"]
    run, build.run = build.run, lambda *_: None  # killed, as when memory is short
    before = world.cloud.record("half", 2)["image"]
    world.forget(2)
    world.settle()
    assert world.cloud.record("half", 2)["state"] == "BUILDING"
    build.run = run
    world.cloud.repair("half")
    world.settle()
    assert world.cloud.record("half", 2)["state"] == "BUILDING"
    world.cloud.handler = _worker_later(world.cloud, BUILD_SECONDS + 1)
    world.cloud.repair("half")
    world.settle()
    record = world.cloud.record("half", 2)
    assert (record["state"], record["image"]) == ("AVAILABLE", before)


def _worker_later(deployed: Cloud, seconds: float) -> Worker:
    system, clients = System.of(deployed.environment), Clients.connect()
    return Worker(
        lambda model: dataclasses.replace(
            system.gateway(model, clients, lambda *_: None),
            clock=lambda: time.time() + seconds,
        ),
        deployed.sqs,
    )
