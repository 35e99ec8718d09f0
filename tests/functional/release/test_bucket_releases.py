"""A model's versions and records in a bucket. S3 is moto's, in this process."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from lambda_serving.errors import Aborted, InvalidArgument, Unavailable
from lambda_serving.release.aws.bucket import SETTLED_SECONDS, BucketReleases, Versions
from lambda_serving.release.deciding.model_state import Record
from lambda_serving.release.golden import GOLDEN
from lambda_serving.release.push import push
from lambda_serving.store.s3_push_target import S3Version

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_FILES = (
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)


class _Bucket:
    """The model MLP in a bucket, and a clock that starts at its last change."""

    def __init__(self, client: "S3Client") -> None:
        self.client = client
        self.waited = 2 * SETTLED_SECONDS
        self.releases = BucketReleases("s3://bucket/models/MLP", client, self._now)

    def _now(self) -> float:
        found = self.client.list_objects_v2(Bucket="bucket").get("Contents", [])
        return max(each["LastModified"].timestamp() for each in found) + self.waited

    def put(self, *keys: str, body: str = "") -> None:
        for key in keys:
            self.client.put_object(Bucket="bucket", Key=f"models/{key}", Body=body.encode())

    def complete(self) -> list[int]:
        return list(self.releases.versions().complete)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield _Bucket(client)
        client.close()


def test_version_without_manifest_settles_first(bucket: _Bucket) -> None:
    bucket.put(*(f"MLP/1/{name}" for name in _FILES))
    bucket.waited = SETTLED_SECONDS - 20
    found = bucket.releases.versions()
    assert found.complete == {}
    assert found.settling[1] == pytest.approx(20)
    bucket.waited = SETTLED_SECONDS
    assert bucket.complete() == [1]


@pytest.mark.parametrize("missing", _FILES)
def test_version_that_lacks_a_file_does_not_count(missing: str, bucket: _Bucket) -> None:
    bucket.put(*(f"MLP/1/{name}" for name in _FILES if name != missing))
    assert bucket.releases.versions() == Versions({}, {})


def test_push_under_way_is_no_version_however_long_it_takes(bucket: _Bucket) -> None:
    bucket.put("MLP/1/push.json", *(f"MLP/1/{name}" for name in _FILES))
    assert bucket.releases.versions() == Versions({}, {})


def test_pushed_version_is_there_at_once(bucket: _Bucket, models_dir: Path) -> None:
    push(models_dir / "half_plus_two/123", S3Version("s3://bucket/models/MLP/1", bucket.client))
    bucket.waited = 0
    assert bucket.complete() == [1]


def test_content_tells_versions_apart_and_is_the_same_for_the_same_files(bucket: _Bucket) -> None:
    bucket.put(*(f"MLP/{version}/{name}" for version in (1, 2) for name in _FILES))
    before = bucket.releases.versions().complete
    assert before[1] == before[2]
    bucket.put("MLP/2/assets/vocabulary.txt")
    after = bucket.releases.versions().complete
    assert after[1] == before[1]
    assert after[2] != before[2]


def test_folders_that_are_not_versions_are_ignored(bucket: _Bucket) -> None:
    bucket.put("MLP/readme.txt", "MLP/draft/saved_model.pb", "MLP/3/", "MLPs/4/saved_model.pb")
    assert bucket.releases.versions() == Versions({}, {})


def test_all_of_a_model_is_one_request(bucket: _Bucket) -> None:
    bucket.put(*(f"MLP/{version}/{name}" for version in range(10) for name in _FILES))
    asked: list[str] = []
    bucket.client.meta.events.register(
        "before-call.s3", lambda model, **_: asked.append(model.name)
    )
    releases = BucketReleases("s3://bucket/models/MLP", bucket.client, lambda: 1e12)
    assert len(releases.versions().complete) == 10
    assert asked == ["ListObjectsV2"]


def test_records_are_kept_beside_the_model(bucket: _Bucket) -> None:
    bucket.put("MLP/1/saved_model.pb")
    record = Record("c", "base", image="sha256:1", warm=3, seconds={"build": 1.5})
    bucket.releases.record(1, record)
    [found] = bucket.releases.records([1, 2]).values()
    assert found.changed > 0
    assert replace(found, changed=0) == record
    keys = [each["Key"] for each in bucket.client.list_objects_v2(Bucket="bucket")["Contents"]]
    assert "models/_releases/MLP/1.json" in keys


def test_record_that_somebody_changed_meanwhile_stays(bucket: _Bucket) -> None:
    bucket.put("MLP/1/saved_model.pb")
    bucket.releases.record(1, Record("c", "base"))
    before = bucket.releases.records([1])[1]
    bucket.releases.record(1, replace(before, image="sha256:theirs"))
    after = bucket.releases.records([1])
    for record in (Record("c", "base"), before):
        with pytest.raises(Aborted, match=r"MLP/1\.json was changed by another run or build"):
            bucket.releases.record(1, replace(record, image="sha256:ours"))
    assert bucket.releases.records([1]) == after
    bucket.client.delete_object(Bucket="bucket", Key="models/_releases/MLP/1.json")
    with pytest.raises(Aborted, match="was changed by another run or build"):
        bucket.releases.record(1, after[1])
    assert bucket.releases.records([1]) == {}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        "1",
        '{"content": "c", "base": "b", "image"',
        "[" * 10**5,
        '{"content": 1, "base": "b"}',
        '{"content": "c", "base": "b", "tries": "many"}',
        '{"content": "c", "base": "b", "seconds": null}',
        '{"content": "c", "base": "b", "changed": "now"}',
    ],
)
def test_invalid_record_is_logged_and_ignored(
    body: str, bucket: _Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("_releases/MLP/1.json", body=body)
    bucket.put(
        "_releases/MLP/2.json", body='{"content": "c", "base": "b", "changed": 5, "more": 1}'
    )
    found = bucket.releases.records([1, 2])
    assert found == {1: Record(content="", base=""), 2: Record("c", "b", changed=5)}
    bucket.releases.record(1, replace(found[1], content="c"))
    assert bucket.releases.records([1])[1].content == "c"
    [told] = caplog.messages
    assert "MLP/1.json is not a release record: " in told


def test_golden_pairs_are_read_if_they_are_there(bucket: _Bucket) -> None:
    assert bucket.releases.golden(1) is None
    bucket.put(f"MLP/1/{GOLDEN}", body="{}")
    assert bucket.releases.golden(1) == b"{}"


@pytest.mark.parametrize("folder", ["00000001", "01", "+1", " 1", "1 "])
def test_folder_of_a_version_has_any_name_that_is_its_number(folder: str, bucket: _Bucket) -> None:
    """Its golden pairs are found there, too."""
    bucket.put(*(f"MLP/{folder}/{name}" for name in _FILES), body="x")
    bucket.put(f"MLP/{folder}/{GOLDEN}", body="{}")
    assert bucket.complete() == [1]
    assert bucket.releases.golden(1) == b"{}"


@pytest.mark.parametrize("folder", ["2/", "", "draft/"])
@pytest.mark.parametrize(
    "name",
    ["/x", "./x", "a//x", "a/./x", "../x", "a/../x", "a\x01b", "a\x7f", "x" * 256, "\u00fc" * 128],
)
def test_key_that_is_not_a_file_name_is_ignored_and_logged(
    folder: str, name: str, bucket: _Bucket
) -> None:
    bucket.put(*(f"MLP/{version}/{file}" for version in (1, 2) for file in _FILES))
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # HTTP would resolve the dots
    backend.put_object("bucket", f"models/MLP/{folder}{name}", b"")
    assert bucket.complete() == [1, 2]
    assert bucket.releases.versions().odd == [f"models/MLP/{folder}{name}"]


def test_bucket_that_is_not_there_is_no_empty_model(bucket: _Bucket) -> None:
    releases = BucketReleases("s3://nowhere/models/MLP", bucket.client)
    for look in (releases.versions, lambda: releases.records([1]), lambda: releases.golden(1)):
        with pytest.raises(Unavailable, match="the bucket does not exist"):
            look()


def test_base_path_must_name_a_model(bucket: _Bucket) -> None:
    with pytest.raises(InvalidArgument, match="names no model"):
        BucketReleases("s3://bucket", bucket.client)
