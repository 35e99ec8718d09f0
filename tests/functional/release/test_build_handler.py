"""The build function's handler: what it records, and what it leaves to a retry."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from lambda_serving.errors import (
    DataLoss,
    DeadlineExceeded,
    DiskFull,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from lambda_serving.image import Registry, open_client
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.aws.events import Reporter
from lambda_serving.release.build.handler import build, start
from lambda_serving.release.build.image_builder import RegistryBuilder
from lambda_serving.release.deciding.model_state import Record
from lambda_serving.servables import compiled_folder
from lambda_serving.store.completeness import Incomplete
from lambda_serving.store.s3_store import S3Store

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

_DIMENSIONS = [["stack", "service"], ["stack", "service", "model"]]
_BASE = "registry/models@sha256:base"


class _Builder:
    elsewhere = False

    def __init__(self, outcome: str | ServingError) -> None:
        self.outcome = outcome

    def build(self, _: Order) -> str:
        if isinstance(self.outcome, ServingError):
            raise self.outcome
        return self.outcome


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketReleases]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="models/MLP/2/manifest.json", Body=b"{}")
        yield BucketReleases("s3://bucket/models/MLP", client)
        client.close()


def _build(outcome: str | ServingError, releases: BucketReleases) -> list[tuple[ServableId, str]]:
    """Builds an image; returns what was reported."""
    told: list[tuple[ServableId, str]] = []
    build(_order(releases), _Builder(outcome), releases, lambda *each: told.append(each))
    return told


def _order(releases: BucketReleases) -> Order:
    """The first order for version 2."""
    return Order("MLP", 2, releases.versions().complete[2], _BASE)


def test_image_is_recorded_for_its_content_and_base(releases: BucketReleases) -> None:
    assert _build("sha256:image", releases) == []
    [record] = releases.records([2]).values()
    assert record.seconds.keys() == {"build"}
    assert replace(record, seconds={}, changed=0) == Record(
        _order(releases).content, "sha256:base", image="sha256:image"
    )


def test_fault_of_the_model_is_recorded_and_reported(releases: BucketReleases) -> None:
    assert _build(DataLoss("not what was pushed"), releases) == [
        (ServableId("MLP", 2), "not what was pushed")
    ]
    assert releases.records([2])[2].error == "not what was pushed"


@pytest.mark.parametrize(
    ("error", "more"),
    [
        (DiskFull("No space left"), "Deploy with a larger BuildEphemeralStorage and delete"),
        (ResourceExhausted("killed"), "Deploy with a larger BuildMemorySize and delete"),
        (DeadlineExceeded("780 seconds"), "Compile it on a machine without a time limit"),
        (Incomplete("b is missing"), "b is missing"),
    ],
)
def test_failure_that_no_retry_fixes_is_recorded_with_the_fix(
    error: ServingError, more: str, releases: BucketReleases
) -> None:
    [(_, told)] = _build(error, releases)
    assert told.startswith(str(error))
    assert more in told
    assert releases.records([2])[2].error == told


@pytest.mark.parametrize("kind", [Unavailable, PermissionDenied])
def test_failure_that_is_not_the_models_fault_is_left_to_a_retry(
    kind: type[ServingError], releases: BucketReleases
) -> None:
    with pytest.raises(kind):
        _build(kind("the registry does not answer"), releases)
    assert releases.records([2]) == {}


_DIGEST = sha256(b"x").hexdigest()


def _listing(*names: str) -> bytes:
    entry = {"size": 1, "sha256": _DIGEST}
    return json.dumps({"format": 1, "files": dict.fromkeys(names, entry)}).encode()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"manifest.json": _listing("a", "b"), "a": b"x"}, "not complete: b is missing"),
        ({"manifest.json": _listing()}, "holds no SavedModel"),
        ({"manifest.json": _listing("a", "a/b"), "a": b"x"}, "'a' is the name of a file and"),
        ({"saved_model.pb": b"", "a": b"x", "a/b": b"x"}, "'a' is the name of a file and"),
        ({"saved_model.pb": b"", "x" * 256: b""}, "is not the name of a file below"),
        ({"manifest.json": _listing("x" * 256)}, "a part longer than the 255 bytes"),
        ({"manifest.json": b"[" * 100_000}, "maximum recursion depth"),
        ({"manifest.json": _listing("a"), "a": b"y"}, "is not what was pushed"),
        ({"saved_model.pb": b"rubbish"}, "Could not load the SavedModel in"),
        (
            {
                "saved_model.pb": b"",
                compiled_folder.MARKER: b'{"format": 1, "tensorflow": "1.15.0"}',
            },
            "It was compiled for TensorFlow 1.15.0",
        ),
    ],
)
def test_content_that_no_retry_fixes_fails_at_once(
    files: dict[str, bytes], reason: str, releases: BucketReleases, tmp_path: Path
) -> None:
    client = boto3.client("s3")
    client.delete_object(Bucket="bucket", Key="models/MLP/2/manifest.json")
    for name, content in files.items():
        client.put_object(Bucket="bucket", Key=f"models/MLP/2/{name}", Body=content)
    store = S3Store({"MLP": "s3://bucket/models/MLP"}, tmp_path / "downloads", client)
    told: list[str] = []
    releases = BucketReleases("s3://bucket/models/MLP", client, lambda: time.time() + 100)
    with open_client() as http:
        builder = RegistryBuilder(lambda *_: Registry(http), store)
        build(_order(releases), builder, releases, lambda _, error: told.append(error))
    client.close()
    assert reason in told[0]
    assert [record.error for record in releases.records([2]).values()] == told


def test_process_on_lambda_keeps_its_memory_to_itself() -> None:
    program = """
import ctypes
from lambda_serving.release.build import handler as building
for environ in ({}, {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}):
    needed = {"MODELS": "s3://bucket/models", "MODEL_ROLE": "arn:aws:iam::1:role/r", "SYSTEM": "s"}
    building.start({**needed, **environ})
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
"""
    env = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1"}
    said = subprocess.check_output([sys.executable, "-c", program], env=env, text=True)
    assert said.split() == ["1", "0"]


_ORDER = {"name": "MLP", "version": 2, "content": "c", "base": "r@b"}


def test_order_of_an_older_release_function_names_one_base_image() -> None:
    order = Order.of(_ORDER)
    assert order == Order("MLP", 2, "c", "r@b", None, None)
    assert order.bases.digests == "b"
    assert [order.bases.of(without_tensorflow=each) for each in (True, False)] == ["r@b", "r@b"]


def test_order_is_read_as_it_was_given() -> None:
    order = Order("MLP", 2, "c", "r@b", "tag", "l@d")
    assert Order.of(json.loads(json.dumps(asdict(order)))) == order
    assert (order.bases.repository, order.bases.digests) == ("r", "b d")
    assert [order.bases.of(without_tensorflow=each) for each in (True, False)] == ["l@d", "r@b"]


@pytest.mark.parametrize(
    "event", [None, [], {}, {**_ORDER, "version": "2"}, {**_ORDER, "lite_base": 1}]
)
def test_event_that_is_not_an_order_is_refused(event: Any) -> None:
    with pytest.raises(InvalidArgument, match="The event is not an order for an image"):
        Order.of(event)


def test_environment_that_lacks_something_is_reported() -> None:
    with pytest.raises(InvalidArgument, match="environment lacks MODELS, MODEL_ROLE"):
        start({"SYSTEM": "s"})
    needed = {"SYSTEM": "s", "MODELS": "s3://bucket/models", "MODEL_ROLE": "role"}
    with pytest.raises(InvalidArgument, match="RUNTIME is 'onnx'. Set it to one of auto, tensor"):
        start({**needed, "RUNTIME": "onnx"})


@mock_aws
def test_failure_is_an_event_a_metric_and_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client: EventBridgeClient = boto3.client("events", region_name="us-east-1")
    put: list[Any] = []
    client.meta.events.register(
        "before-parameter-build.events.PutEvents",
        lambda params, **_: put.extend(params["Entries"]),
    )
    Reporter("system", client)(ServableId("MLP", 2), "corrupt")
    client.close()
    [entry] = put
    assert (entry["Source"], entry["DetailType"]) == ("lambda-serving", "Model Version Failed")
    assert json.loads(entry["Detail"]) == {
        "system": "system",
        "model": "MLP",
        "version": 2,
        "error": "corrupt",
    }
    metric = json.loads(capsys.readouterr().out)
    assert (metric["ReleaseFailures"], metric["service"]) == ([1.0], "lambda_serving_release")
    assert (metric["stack"], metric["model"]) == ("system", "MLP")
    [described] = metric["_aws"]["CloudWatchMetrics"]
    assert (described["Namespace"], described["Dimensions"]) == ("LambdaServing", _DIMENSIONS)
    assert "{name: MLP version: 2} failed: corrupt" in caplog.text


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator["EventBridgeClient"]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("events", region_name="us-east-1")
        yield client
        client.close()


def _put(bus: "EventBridgeClient") -> list[Any]:
    """The events that are put from now on."""
    put: list[Any] = []
    bus.meta.events.register(
        "before-parameter-build.events.PutEvents",
        lambda params, **_: put.extend(params["Entries"]),
    )
    return put


def test_event_that_the_bus_does_not_take_is_told_again(bus: "EventBridgeClient") -> None:
    """PutEvents itself succeeds."""
    refused = {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}
    bus.meta.events.register(
        "after-call.events.PutEvents",
        lambda parsed, **_: parsed.update(FailedEntryCount=1, Entries=[refused]),
    )
    with pytest.raises(Unavailable, match=r"slow down \(ThrottlingException\)"):
        Reporter("system", bus)(ServableId("MLP", 2), "corrupt")


@pytest.mark.parametrize("error", ["x" * 300_000, "\x00" * 300_000, "\u00fc\U0001f600" * 99_999])
def test_error_of_any_length_fits_an_event(error: str, bus: "EventBridgeClient") -> None:
    put = _put(bus)
    Reporter("system", bus)(ServableId("MLP", 2), error)
    [entry] = put
    told = json.loads(entry["Detail"])["error"]
    assert len(entry["Detail"]) < 20_000
    assert told.endswith("... (the log has all of it)")
    assert error.startswith(told.removesuffix("... (the log has all of it)"))


def test_address_that_is_missing_is_an_event_of_its_own(bus: "EventBridgeClient") -> None:
    put = _put(bus)
    Reporter("system", bus).address("MLP", "label-stable", "no room")
    [entry] = put
    assert entry["DetailType"] == "Model Address Missing"
    assert json.loads(entry["Detail"]) == {
        "system": "system",
        "model": "MLP",
        "alias": "label-stable",
        "error": "no room",
    }
