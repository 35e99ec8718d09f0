"""Buckets as settings name them, and models that are served from them."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import numpy as np
import pytest
from botocore.config import Config

from lambda_serving.errors import (
    InvalidArgument,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.servables import saved_model
from lambda_serving.store import open_store
from lambda_serving.store.s3_store import S3Store
from support.server_process import MNIST, running, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_missing_bucket_is_unavailable(client: "S3Client", tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        S3Store({"m": "s3://no-such-bucket/m"}, tmp_path, client).versions("m")
    assert str(refused.value) == (
        "Could not read s3://no-such-bucket/m: the bucket does not exist. Correct its name"
    )


def test_no_credentials_are_told_with_the_ways_to_set_them(
    tmp_path: Path, aws: pytest.MonkeyPatch
) -> None:
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Unavailable) as refused:
        open_store({"m": "s3://bucket/m"}, tmp_path).versions("m")
    assert str(refused.value) == (
        "Could not read s3://bucket/m: no AWS credentials (Unable to locate credentials). Set"
        " AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a"
        " role"
    )


def test_half_of_the_credentials_are_reported(tmp_path: Path, aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Unavailable, match="s3://bucket/m: no AWS credentials .*SECRET"):
        open_store({"m": "s3://bucket/m"}, tmp_path).versions("m")


def test_unreachable_endpoint_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    once = Config(retries={"total_max_attempts": 1})
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=once)
    with pytest.raises(Unavailable, match=r"Could not read s3://bucket/m: S3 does not answer \("):
        S3Store({"m": "s3://bucket/m"}, tmp_path, client).versions("m")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("AWS_ENDPOINT_URL", "localhost:9000", "Invalid endpoint: localhost:9000"),
        ("AWS_PROFILE", "nobody", "The config profile (nobody) could not be found"),
    ],
)
def test_wrong_settings_are_reported(
    tmp_path: Path, aws: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    aws.setenv(name, value)
    with pytest.raises(Unavailable) as refused:
        open_store({"m": "s3://bucket/m"}, tmp_path)
    assert str(refused.value) == f"Could not read s3://bucket/m: {reason}"


def test_base_path_without_a_bucket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="Model m's base path s3:///m names no bucket"):
        open_store({"m": "s3:///m"}, tmp_path)


def test_each_of_several_models_is_asked_where_it_lies(
    client: "S3Client", bucket: str, endpoint: str, aws: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aws.setenv("AWS_ENDPOINT_URL", endpoint)
    client.put_object(Bucket=bucket, Key="m/7/saved_model.pb", Body=b"")
    base_paths = {"far": f"s3://{bucket}/m", "near": str(MNIST / "saved")}
    store = open_store(base_paths, tmp_path)
    assert {name: (store.versions(name), store.contents(name)) for name in base_paths} == {
        "far": ([7], ["7"]),
        "near": ([1], ["1"]),
    }
    assert store.fetch(ServableId("far", 7)) == tmp_path / "far/7"
    assert store.fetch(ServableId("near", 1)) == MNIST / "saved/1"


def test_boto3_is_imported_for_buckets_only() -> None:
    program = (
        "import sys; from pathlib import Path; from lambda_serving.store import open_store;"
        "open_store({'m': '/models'}, Path('downloads')); sys.exit('botocore' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture
def uploaded(client: "S3Client", bucket: str) -> str:
    """The base path of the sample model in a bucket."""
    for path in (MNIST / "saved").rglob("*"):
        if path.is_file():
            key = f"MLP/{path.relative_to(MNIST / 'saved').as_posix()}"
            client.upload_file(str(path), bucket, key)
    return f"s3://{bucket}/MLP"


def test_model_from_a_bucket_predicts(client: "S3Client", uploaded: str, tmp_path: Path) -> None:
    store = S3Store({"MLP": uploaded}, tmp_path, client)
    [version] = store.versions("MLP")
    digit = np.array(json.loads((MNIST / "request.json").read_bytes())["instances"], np.float32)
    with saved_model.load(store.fetch(ServableId("MLP", version))) as servable:
        [name] = servable.signature("").inputs
        [scores] = servable.run("", {name: digit}).values()
    assert scores.argmax() == 7


def test_serve_takes_a_bucket_and_cleans_up(
    uploaded: str, endpoint: str, aws: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aws.setenv("AWS_ENDPOINT_URL", endpoint)
    aws.setenv("TMPDIR", str(tmp_path))
    with running("--model_name=MLP", f"--model_base_path={uploaded}") as (url, process):
        assert len(list(tmp_path.iterdir())) == 1
        body = (MNIST / "request.json").read_bytes()
        [row] = httpx.post(f"{url}/v1/models/MLP:predict", content=body).json()["predictions"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
    assert row.index(max(row)) == 7
    assert list(tmp_path.iterdir()) == []


def test_serve_follows_a_bucket_and_keeps_only_what_is_loaded(
    client: "S3Client",
    bucket: str,
    uploaded: str,
    endpoint: str,
    aws: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    aws.setenv("AWS_ENDPOINT_URL", endpoint)
    aws.setenv("TMPDIR", str(tmp_path))
    flags = (f"--model_base_path={uploaded}", "--bucket_poll_wait_seconds=1")
    with running("--model_name=MLP", *flags) as (url, _):
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
        for key in sorted(keys, reverse=True):  # what the index names comes before it
            copy = key.replace("MLP/1/", "MLP/2/")
            client.copy({"Bucket": bucket, "Key": key}, bucket, copy)
        ended = {"2": "AVAILABLE", "1": "END"}
        until(lambda: _states(f"{url}/v1/models/MLP") == ended)
        assert [path.name for path in tmp_path.glob("*/MLP/*")] == ["2"]


def _states(url: str) -> dict[str, str]:
    statuses = httpx.get(url).json()["model_version_status"]
    return {each["version"]: each["state"] for each in statuses}
