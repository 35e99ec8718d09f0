"""Stores: what all of them promise, and what buckets bring with them. S3 is moto's server."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import httpx
import numpy as np
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from lambda_serving import saved_model
from lambda_serving.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.store import LocalStore, Store, open_store
from lambda_serving.store.s3 import S3Store
from server_process import MNIST, running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_INDEX = "variables/variables.index"
_FILES = ("saved_model.pb", _INDEX, "variables/variables.data-00000-of-00001")
_EXPORT = {f"1/{file}": file.encode() for file in _FILES}

_Put = Callable[[dict[str, bytes]], None]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No settings of AWS but credentials for moto and those of the test."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return monkeypatch


@pytest.fixture
def client(endpoint: str) -> "Iterator[S3Client]":
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    yield client
    client.close()


@pytest.fixture
def bucket(client: "S3Client") -> str:
    name = f"bucket-{uuid4()}"
    client.create_bucket(Bucket=name)
    return name


class StoreContract:
    """What holds for model `m` in any store; `put` writes files below its base path."""

    def test_no_versions_where_there_are_none(self, store: Store, put: _Put) -> None:
        put({"saved_model.pb": b"", "v1/saved_model.pb": b""})
        assert store.versions("m") == []

    def test_versions_are_sorted_as_numbers(self, store: Store, put: _Put) -> None:
        put({f"{name}/saved_model.pb": b"" for name in ("10", "9", "002", "v3", "1.0", "-6")})
        assert store.versions("m") == [2, 9, 10]

    def test_contents_names_some_of_what_is_there(self, store: Store, put: _Put) -> None:
        put({"b/1/x": b"", "a": b"", **{f"c{number}": b"" for number in range(10)}})
        assert store.contents("m") == ["a", "b", *(f"c{number}" for number in range(8))]

    def test_fetch_brings_all_files_with_their_content(self, store: Store, put: _Put) -> None:
        put({**_EXPORT, "1/assets.extra/a/b": b"x" * 9_000_000, "2/saved_model.pb": b"other"})
        assert _content(store.fetch(ServableId("m", 1))) == {
            **{file: file.encode() for file in _FILES},
            "assets.extra/a/b": b"x" * 9_000_000,
        }

    def test_fetch_takes_the_name_that_means_the_version(self, store: Store, put: _Put) -> None:
        put({"001/saved_model.pb": b"first", "01/saved_model.pb": b"last"})
        assert _content(store.fetch(ServableId("m", 1))) == {"saved_model.pb": b"last"}

    def test_version_that_is_not_there_is_not_found(self, store: Store, put: _Put) -> None:
        put({"41/saved_model.pb": b""})
        with pytest.raises(NotFound, match=r"^Version 4 of model m is not under .*/models/m$"):
            store.fetch(ServableId("m", 4))


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore({"m": f"{tmp_path}/models/m"})

    @pytest.fixture
    def put(self, tmp_path: Path) -> _Put:
        def put(files: dict[str, bytes]) -> None:
            for name, content in files.items():
                path = tmp_path / "models/m" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

        return put


class TestS3Store(StoreContract):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "downloads"

    @pytest.fixture
    def store(self, client: "S3Client", bucket: str, folder: Path) -> Store:
        return S3Store({"m": f"s3://{bucket}/models/m/"}, folder, client)

    @pytest.fixture
    def put(self, client: "S3Client", bucket: str) -> _Put:
        def put(files: dict[str, bytes]) -> None:
            for name, content in files.items():
                client.put_object(Bucket=bucket, Key=f"models/m/{name}", Body=content)

        return put

    def test_a_bucket_of_its_own_needs_no_prefix(
        self, client: "S3Client", bucket: str, folder: Path
    ) -> None:
        client.put_object(Bucket=bucket, Key="3/saved_model.pb", Body=b"x")
        store = S3Store({"m": f"s3://{bucket}"}, folder, client)
        assert (store.versions("m"), store.contents("m")) == ([3], ["3"])
        assert store.fetch(ServableId("m", 3)) == folder / "m/3"

    def test_markers_of_folders_are_no_files(self, store: Store, put: _Put) -> None:
        put({"": b"", "1/": b"", "1/variables/": b"", "1/saved_model.pb": b""})
        assert store.contents("m") == ["1"]
        assert _content(store.fetch(ServableId("m", 1))) == {"saved_model.pb": b""}

    def test_all_of_a_thousand_versions_are_seen(self, store: Store, bucket: str) -> None:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # by HTTP this takes seconds
        for version in range(1001):
            backend.put_object(bucket, f"models/m/{version}/saved_model.pb", b"")
            backend.put_object(bucket, f"models/m/{version}/below", b"")
        assert store.versions("m") == list(range(1001))

    def test_all_pages_of_files_are_fetched(
        self, store: Store, put: _Put, aws: pytest.MonkeyPatch
    ) -> None:
        put({**_EXPORT, "1/assets/a": b"a", "1/assets/b": b"b"})
        aws.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
        assert len(_content(store.fetch(ServableId("m", 1)))) == 5

    def test_versions_lists_names_and_nothing_below_them(
        self, client: "S3Client", store: Store, put: _Put
    ) -> None:
        put({f"1/{number}": b"" for number in range(5)})
        found: list[int] = []
        client.meta.events.register(
            "after-call.s3.ListObjectsV2", lambda parsed, **_: found.append(parsed["KeyCount"])
        )
        assert (store.versions("m"), found) == ([1], [1])

    def test_second_fetch_asks_nothing(
        self, client: "S3Client", store: Store, put: _Put, folder: Path
    ) -> None:
        put(_EXPORT)
        assert store.fetch(ServableId("m", 1)) == folder / "m/1"
        requests: list[object] = []
        client.meta.events.register("before-call.s3", lambda model, **_: requests.append(model))
        assert (store.fetch(ServableId("m", 1)), requests) == (folder / "m/1", [])

    def test_two_fetches_at_once_end_in_one_copy(
        self, store: Store, put: _Put, folder: Path
    ) -> None:
        put(_EXPORT)
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(store.fetch, [ServableId("m", 1)] * 2))
        assert both == [folder / "m/1"] * 2
        assert [*folder.iterdir(), *folder.glob("m/*")] == [folder / "m", folder / "m/1"]

    @pytest.mark.parametrize(
        ("files", "missing"),
        [
            ({"1/": b""}, "saved_model.pb"),
            ({f"1/{file}": b"" for file in _FILES[1:]}, "saved_model.pb"),
            ({f"1/{file}": b"" for file in _FILES[:2]}, "variables/variables.data-00000-of-00001"),
            (
                {f"1/{_FILES[0]}": b"", f"1/{_FILES[2]}": b""},
                "variables/variables.index",
            ),
            (
                {
                    "1/saved_model.pbtxt": b"",
                    "1/variables/variables.index": b"",
                    "1/variables/variables.data-00001-of-00003": b"",
                },
                "variables/variables.data-00000-of-00003, variables/variables.data-00002-of-00003",
            ),
        ],
    )
    def test_partial_copy_is_refused_with_what_is_missing(
        self, store: Store, put: _Put, folder: Path, files: dict[str, bytes], missing: str
    ) -> None:
        put(files)
        with pytest.raises(Unavailable, match=r"s3://.*/models/m/1 is not complete: ") as refused:
            store.fetch(ServableId("m", 1))
        assert f"not complete: {missing} is missing" in str(refused.value)
        assert not folder.exists()

    def test_shards_of_an_older_checkpoint_do_not_matter(self, store: Store, put: _Put) -> None:
        put({**_EXPORT, "1/variables/variables.data-00000-of-00002": b""})
        assert len(_content(store.fetch(ServableId("m", 1)))) == 4

    @pytest.mark.parametrize("name", ["../../evil", "a/../../../evil", "/etc/evil", "./a", "a//b"])
    def test_keys_that_leave_the_folder_are_refused(
        self, store: Store, bucket: str, folder: Path, name: str
    ) -> None:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # HTTP would resolve the dots
        for key in (f"models/m/1/{name}", "models/m/1/saved_model.pb"):
            backend.put_object(bucket, key, b"")
        with pytest.raises(InvalidArgument) as refused:
            store.fetch(ServableId("m", 1))
        assert str(refused.value) == (
            f"The key models/m/1/{name} in bucket {bucket} is not the name of a file below"
            f" s3://{bucket}/models/m/1. Remove it"
        )
        assert not folder.exists()

    def test_failed_download_leaves_nothing_behind(
        self, client: "S3Client", store: Store, put: _Put, folder: Path
    ) -> None:
        def fail(params: dict[str, str], **_: object) -> None:
            if "data" in params["url_path"]:
                raise EndpointConnectionError(endpoint_url="s3")

        put(_EXPORT)
        client.meta.events.register("before-call.s3.GetObject", fail)
        with pytest.raises(Unavailable, match="S3 does not answer"):
            store.fetch(ServableId("m", 1))
        assert list(folder.iterdir()) == []

    def test_interrupted_download_leaves_nothing_behind(
        self, client: "S3Client", store: Store, put: _Put, folder: Path
    ) -> None:
        def interrupt(params: dict[str, str], **_: object) -> None:
            if "data" in params["url_path"]:
                os.kill(os.getpid(), signal.SIGINT)

        put({**_EXPORT, "1/large": b"x" * 2**20})
        client.meta.events.register("before-call.s3.GetObject", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.fetch(ServableId("m", 1))
        assert list(folder.iterdir()) == []

    def test_a_disk_that_takes_no_files_is_told(
        self, store: Store, put: _Put, folder: Path
    ) -> None:
        put(_EXPORT)
        folder.touch()
        with pytest.raises(Unavailable, match="Could not store s3://.*/models/m/1 in .*/m/1"):
            store.fetch(ServableId("m", 1))

    def test_objects_that_may_not_be_read_are_told(
        self, client: "S3Client", store: Store, put: _Put, bucket: str
    ) -> None:
        put(_EXPORT)
        deny = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
        client.put_bucket_policy(Bucket=bucket, Policy=policy)
        with pytest.raises(PermissionDenied) as refused:
            store.fetch(ServableId("m", 1))
        assert str(refused.value) == (
            f"Could not read s3://{bucket}/models/m/1: access is denied. Allow s3:ListBucket on"
            " the bucket and s3:GetObject on its objects"
        )

    @pytest.mark.parametrize(
        ("code", "kind", "reason"),
        [
            ("AccessDenied", PermissionDenied, "Allow s3:ListBucket on the bucket"),
            ("ExpiredToken", PermissionDenied, "credentials have expired"),
            ("InvalidAccessKeyId", PermissionDenied, "does not know the access key"),
            ("SignatureDoesNotMatch", PermissionDenied, "secret access key is wrong"),
            ("AnythingElse", Unavailable, "(AnythingElse) when calling the ListObjectsV2"),
        ],
    )
    def test_refused_listing_is_an_error_and_not_an_empty_list(
        self, client: "S3Client", store: Store, code: str, kind: type[ServingError], reason: str
    ) -> None:
        def refuse(http_response: AWSResponse, parsed: dict[str, object], **_: object) -> None:
            http_response.status_code = 403
            parsed["Error"] = {"Code": code, "Message": "no"}

        client.meta.events.register("after-call.s3.ListObjectsV2", refuse)
        for method in (store.versions, store.contents):
            with pytest.raises(kind, match=r"^Could not read s3://.*/models/m: ") as refused:
                method("m")
            assert reason in str(refused.value)


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


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


def test_half_of_the_credentials_are_told(tmp_path: Path, aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Unavailable, match="s3://bucket/m: no AWS credentials .*SECRET"):
        open_store({"m": "s3://bucket/m"}, tmp_path).versions("m")


def test_unreachable_endpoint_is_told(tmp_path: Path) -> None:
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
def test_wrong_settings_are_told(
    tmp_path: Path, aws: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    aws.setenv(name, value)
    with pytest.raises(Unavailable) as refused:
        open_store({"m": "s3://bucket/m"}, tmp_path)
    assert str(refused.value) == f"Could not read s3://bucket/m: {reason}"


def test_base_path_without_a_bucket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="The base path s3:///m names no bucket"):
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
        assert process.wait(60) == 0
    assert row.index(max(row)) == 7
    assert list(tmp_path.iterdir()) == []
