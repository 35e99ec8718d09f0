"""`models.config` in a bucket, and the commands that change it. S3 is moto's server."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.config import Config
from click import Command
from click.testing import CliRunner

from lambda_serving.cli.label import label
from lambda_serving.cli.rollback import rollback
from lambda_serving.cli.set_policy import set_policy
from lambda_serving.config.model_config import Logging, ModelConfig
from lambda_serving.config.model_server_config import parse
from lambda_serving.config.servable_version_policy import All, Latest, Specific
from lambda_serving.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.policy_file import PolicyFile
from lambda_serving.release.deciding.model_state import Record

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_KEY = "models/models.config"
_OTHERS = """
# of others
model_config_list {
  config {
    name: "A" base_path: "/m/A" model_platform: "tensorflow"
    model_version_policy { all {} }
  }
  config {
    name: "B" model_platform: "tensorflow"
    version_labels { key: "stable" value: 42 }
    logging_config { sampling_config { sampling_rate: 0.5 } }
  }
}
"""


@pytest.fixture(scope="module")
def endpoint(moto: str) -> str:
    """Without sockets, because each command run here creates a client."""
    return moto


@pytest.fixture(autouse=True)
def aws(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS settings of a user who may do anything in moto."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def base_path(bucket: str) -> str:
    return f"s3://{bucket}/models/MLP"


@pytest.fixture
def file(client: "S3Client", base_path: str) -> PolicyFile:
    return PolicyFile(base_path, client)


def _put(client: "S3Client", bucket: str, text: str | bytes) -> None:
    client.put_object(Bucket=bucket, Key=_KEY, Body=text)


def _text(client: "S3Client", bucket: str) -> str:
    return client.get_object(Bucket=bucket, Key=_KEY)["Body"].read().decode()


def _to_all(model: ModelConfig) -> ModelConfig:
    return replace(model, policy=All())


class _Meanwhile:
    """A client that lets others come first: they `act` before each put, `times` of them."""

    def __init__(self, client: "S3Client", act: Callable[[int], object], times: int) -> None:
        self._client, self._act, self._times = client, act, times
        self.puts = 0

    def get_object(self, **request: Any) -> Any:
        return self._client.get_object(**request)

    def put_object(self, **request: Any) -> Any:
        self.puts += 1
        if self.puts <= self._times:
            self._act(self.puts)
        return self._client.put_object(**request)

    def as_client(self) -> "S3Client":
        return cast("S3Client", self)


def test_without_a_file_the_latest_version_is_released(file: PolicyFile, base_path: str) -> None:
    assert file.read() == ModelConfig("MLP", base_path, Latest(1), {})


def test_a_model_that_is_not_in_the_file_is_as_without_one(
    file: PolicyFile, base_path: str, client: "S3Client", bucket: str
) -> None:
    _put(client, bucket, _OTHERS)
    assert file.read() == ModelConfig("MLP", base_path)


def test_the_file_lies_beside_the_model(client: "S3Client") -> None:
    assert [str(PolicyFile(path, client)) for path in ("s3://b/m/MLP/", "s3://b/MLP")] == [
        "s3://b/m/models.config",
        "s3://b/models.config",
    ]
    with pytest.raises(InvalidArgument, match="^s3://b names no model: s3://BUCKET/PREFIX/NAME$"):
        PolicyFile("s3://b/", client)


def test_a_base_path_for_servers_does_not_matter(client: "S3Client", bucket: str) -> None:
    _put(client, bucket, _OTHERS)
    found = [PolicyFile(f"s3://{bucket}/models/{name}", client).read() for name in "AB"]
    assert found == [
        ModelConfig("A", f"s3://{bucket}/models/A", All()),
        ModelConfig("B", f"s3://{bucket}/models/B", Latest(1), {"stable": 42}, Logging("", 0.5)),
    ]


def test_a_change_makes_the_file_that_a_server_takes(
    file: PolicyFile, client: "S3Client", bucket: str, base_path: str
) -> None:
    changed = file.change(_to_all)
    assert changed == file.read() == ModelConfig("MLP", base_path, All())
    assert parse(_text(client, bucket), "it") == [changed]
    assert client.head_object(Bucket=bucket, Key=_KEY)["ContentType"] == "text/plain"


def test_a_change_keeps_other_models(file: PolicyFile, client: "S3Client", bucket: str) -> None:
    _put(client, bucket, _OTHERS)
    changed = file.change(_to_all)
    assert parse(_text(client, bucket), "it") == [*parse(_OTHERS, "it"), changed]
    assert "sampling_rate: 0.5" in _text(client, bucket)


def test_change_without_effect_is_not_written(
    file: PolicyFile, client: "S3Client", bucket: str
) -> None:
    _put(client, bucket, _OTHERS)
    file.change(lambda model: replace(model, policy=Latest(1)))
    assert _text(client, bucket) == _OTHERS


@pytest.mark.parametrize("before", [None, _OTHERS])
def test_two_changes_at_once_are_both_made(
    client: "S3Client", bucket: str, base_path: str, before: str | None
) -> None:
    if before:
        _put(client, bucket, before)
    other = PolicyFile(f"s3://{bucket}/models/Other", client)
    busy = _Meanwhile(client, lambda _: other.change(_to_all), times=1)
    changed = PolicyFile(base_path, busy.as_client()).change(_to_all)
    assert parse(_text(client, bucket), "it") == [
        *(parse(before, "it") if before else ()),
        other.read(),
        changed,
    ]
    assert busy.puts == 2


def test_a_file_deleted_meanwhile_is_made_again(
    client: "S3Client", bucket: str, base_path: str
) -> None:
    _put(client, bucket, _OTHERS)
    busy = _Meanwhile(client, lambda _: client.delete_object(Bucket=bucket, Key=_KEY), times=1)
    changed = PolicyFile(base_path, busy.as_client()).change(_to_all)
    assert parse(_text(client, bucket), "it") == [changed]


def test_changes_without_end_abort_ours(client: "S3Client", bucket: str, base_path: str) -> None:
    busy = _Meanwhile(
        client, lambda count: _put(client, bucket, f"{_OTHERS}# {count}"), times=sys.maxsize
    )
    with pytest.raises(Aborted, match=f"^Could not write s3://{bucket}/{_KEY}: others keep chang"):
        PolicyFile(base_path, busy.as_client()).change(_to_all)
    assert _text(client, bucket) == f"{_OTHERS}# {busy.puts}"


def test_an_unreadable_bucket_is_an_error_and_no_default(client: "S3Client") -> None:
    with pytest.raises(Unavailable, match="^Could not read s3://nowhere/m/models.config: the buck"):
        PolicyFile("s3://nowhere/m/MLP", client).read()
    deaf = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(Unavailable, match="S3 does not answer"):
        PolicyFile("s3://bucket/m/MLP", deaf).read()
    deaf.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"model_config_list {\n  config { nmae: 'MLP' } }", "is not valid: 2:12 : .*nmae"),
        (b"\xff", "is not valid: "),
        (b"", "has no model_config_list"),
        (
            b"model_config_list { config { name: 'MLP' } }",
            "Illegal setting neither .* model name is MLP",
        ),
        (
            b"model_config_list {"
            + b"config { name: 'MLP' model_platform: 'tensorflow' }" * 2
            + b"}",
            "^Illegal to list model MLP multiple times in s3://",
        ),
    ],
)
def test_invalid_text_is_refused_and_stays(
    file: PolicyFile, client: "S3Client", bucket: str, text: bytes, reason: str
) -> None:
    _put(client, bucket, text)
    for refused in (file.read, lambda: file.change(_to_all)):
        with pytest.raises(InvalidArgument, match=reason) as caught:
            refused()
        assert str(file) in str(caught.value)
    assert client.get_object(Bucket=bucket, Key=_KEY)["Body"].read() == text


def _run(command: Command, *arguments: str) -> str:
    """The result that the command prints; raises what it raises."""
    ended = CliRunner().invoke(command, arguments)
    if isinstance(ended.exception, ServingError):
        raise ended.exception
    assert (ended.exit_code, ended.exception) == (0, None), ended.output
    return ended.stdout


def _misused(command: Command, *arguments: str) -> str:
    ended = CliRunner().invoke(command, arguments)
    assert ended.exit_code == 2, ended.output
    return ended.output


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["latest"], "latest 1"),
        (["latest", "3"], "latest 3"),
        (["all"], "all"),
        (["specific", "2"], "specific 2"),
        (["specific", "10,9,10"], "specific 9,10"),
    ],
)
def test_set_policy_keeps_labels(file: PolicyFile, words: list[str], shown: str) -> None:
    base_path = file.read().base_path
    _run(label, base_path, "stable=2")
    assert _run(set_policy, base_path, *words) == f"{base_path}: {shown}; labels stable=2\n"
    assert _run(label, base_path) == f"{base_path}: {shown}; labels stable=2\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "Missing argument"),
        (["newest"], "latest, latest N, all, or specific VERSION,VERSION, not 'newest'"),
        (["all", "1"], "not 'all 1'"),
        (["specific"], "not 'specific'"),
        (["specific", "1,x"], "'x' must be a number from 0"),
        (["specific", str(2**63)], "must be a number from 0"),
        (["latest", "0"], "'0' must be a number from 1 to 4294967295"),
    ],
)
def test_invalid_policies_are_refused(words: list[str], reason: str) -> None:
    assert reason in _misused(set_policy, "s3://bucket/m/MLP", *words)


def test_labels_are_set_moved_and_removed(base_path: str) -> None:
    said = [
        _run(label, base_path, *arguments)
        for arguments in (
            [],
            ["stable=2", "canary=3"],
            ["stable=3", "--remove", "canary"],
            ["--remove", "stable"],
        )
    ]
    assert said == [
        f"{base_path}: latest 1; {labels}\n"
        for labels in (
            "no labels",
            "labels canary=3 stable=2",
            "labels stable=3",
            "no labels",
        )
    ]


def test_a_label_that_is_not_there_cannot_be_removed(base_path: str) -> None:
    _run(label, base_path, "stable=2")
    with pytest.raises(NotFound, match="has no label stabel. It has labels stable=2$"):
        _run(label, base_path, "--remove", "stabel")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["stable"], "Labels are set with NAME=VERSION, not with 'stable'"),
        (["a.b=1"], "The label 'a.b' must be 1 to 100 characters of A-Z, a-z, 0-9, _ and -"),
        (["ü=1"], "The label 'ü' must be"),
        (["=1"], "The label '' must be"),
        ([f"{'a' * 101}=1"], "must be 1 to 100 characters of"),
        (["a=-1"], "'-1' must be a number from 0"),
        (["a=1", "a=2"], "The label a is set twice"),
        (["a=1", "--remove", "a"], "a cannot be set and removed at once"),
    ],
)
def test_invalid_labels_are_refused(arguments: list[str], reason: str) -> None:
    said = _misused(label, "s3://bucket/m/MLP", *arguments)
    assert reason in " ".join(said.split())


@pytest.fixture
def four_versions(client: "S3Client", bucket: str, base_path: str) -> str:
    """1, 2 failed, 3 and 4 are complete; 3 failed with other files. 5 is not complete."""
    for version in (1, 2, 3, 4):
        _push(client, bucket, version)
    client.put_object(Bucket=bucket, Key="models/MLP/5/saved_model.pb", Body=b"")
    releases = BucketReleases(base_path, client)
    contents = releases.versions().complete
    releases.record(1, Record(contents[1], "base", warm=7))
    releases.record(2, Record(contents[2], "base", error="does not answer"))
    releases.record(3, Record("other", "base", error="could not be compiled"))
    return base_path


def _push(client: "S3Client", bucket: str, version: int) -> None:
    manifest = json.dumps({"files": {f"{version}": {"size": 0, "sha256": "0" * 64}}})
    client.put_object(Bucket=bucket, Key=f"models/MLP/{version}/manifest.json", Body=manifest)


@pytest.mark.parametrize(
    ("policy", "labels", "warned"),
    [
        (["latest"], ["new=4"], []),
        (["latest"], ["stable=3"], ["version 3 is not released, so the label stable has no URL"]),
        (["latest", "2"], ["stable=3"], []),
        (["all"], ["next=9"], ["version 9 is not released"]),
    ],
)
def test_label_of_a_version_without_a_url_is_a_warning(
    policy: list[str], labels: list[str], warned: list[str], four_versions: str
) -> None:
    _run(set_policy, four_versions, *policy)
    said = CliRunner().invoke(label, [four_versions, *labels]).stderr
    assert len(said.splitlines()) == len(warned)
    assert all(each in said for each in warned)


def test_rollback_goes_to_the_good_version_before(four_versions: str, client: "S3Client") -> None:
    releases = BucketReleases(four_versions, client)
    _answer(releases, 3)
    _answer(releases, 4)
    back = f"To return: lambda-serving set-policy {four_versions} latest\n"
    _run(label, four_versions, "stable=3")
    said = [_run(rollback, four_versions) for _ in range(2)]
    assert said == [
        f"{four_versions}: specific {version}; labels stable=3\nBack to version {version}. {back}"
        for version in (3, 1)  # version 2 failed
    ]
    with pytest.raises(FailedPrecondition, match="has no version before 1 .*ed. Push another"):
        _run(rollback, four_versions)


def _answer(releases: BucketReleases, version: int) -> None:
    """Records that the current content of a version is built and answers."""
    found = releases.records([version]).get(version)
    content = releases.versions().complete[version]
    record = Record(content, "base", image="i", warm=7, tag=found.tag if found else None)
    releases.record(version, record)


@pytest.mark.parametrize("state", ["pushed", "being built", "built", "retired"])
def test_rollback_goes_to_no_version_that_never_answered(
    state: str, four_versions: str, client: "S3Client"
) -> None:
    releases = BucketReleases(four_versions, client)
    _answer(releases, 4)
    [before] = releases.records([3]).values()
    told = {"being built": {"asked": 1.0}, "built": {"image": "i"}, "retired": {}}
    if state != "pushed":
        now = Record(releases.versions().complete[3], "base", tag=before.tag)
        releases.record(3, replace(now, **told[state]))  # type: ignore[arg-type] # of a table
    assert "Back to version 1. " in _run(rollback, four_versions)
    client.delete_object(Bucket=four_versions.split("/")[2], Key="models/_releases/MLP/1.json")
    _run(set_policy, four_versions, "latest")
    with pytest.raises(FailedPrecondition, match="Choose one with --version: 1, 3$"):
        _run(rollback, four_versions)
    assert "Back to version 3. " in _run(rollback, four_versions, "--version", "3")


def test_rollback_counts_from_what_answered_and_not_from_what_is_built(
    four_versions: str, client: "S3Client"
) -> None:
    releases = BucketReleases(four_versions, client)
    _answer(releases, 3)
    assert "Back to version 1. " in _run(rollback, four_versions)  # version 2 failed


def test_rollback_goes_to_a_version_of_choice(four_versions: str, file: PolicyFile) -> None:
    assert "Back to version 1. " in _run(rollback, four_versions, "--version", "1")
    assert file.read().policy == Specific(frozenset({1}))


@pytest.mark.parametrize(
    ("version", "error", "reason"),
    [
        ("2", FailedPrecondition, "^Version 2 of s3://.* failed: does not answer$"),
        ("5", NotFound, "has no complete version 5. Choose one with --version: 1, 3, 4$"),
        ("9", NotFound, "has no complete version 9. Choose one with --version: 1, 3, 4$"),
    ],
)
def test_rollback_refuses_what_cannot_be_served(
    four_versions: str, file: PolicyFile, version: str, error: type[ServingError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        _run(rollback, four_versions, "--version", version)
    assert file.read().policy == Latest(1)


def test_rollback_tells_when_it_cannot_know_what_is_live(four_versions: str) -> None:
    _run(set_policy, four_versions, "specific", "2,9")
    with pytest.raises(
        FailedPrecondition, match="'specific 2,9' is complete .* with --version: 1, 3, 4$"
    ):
        _run(rollback, four_versions)


@pytest.mark.parametrize("version", [[], ["--version=1"]])
def test_rollback_of_an_unknown_model_says_so(four_versions: str, version: list[str]) -> None:
    unknown = four_versions.replace("MLP", "MPL")
    with pytest.raises(NotFound, match=f"^{unknown} has no complete version, .* push .*MPL/1$"):
        _run(rollback, unknown, *version)


@pytest.mark.parametrize("arguments", [(set_policy, "all"), (label, "a=1"), (rollback,)])
def test_a_base_path_must_be_in_a_bucket(arguments: tuple[Command, *tuple[str, ...]]) -> None:
    command, *rest = arguments
    with pytest.raises(InvalidArgument, match="^BASE_PATH must be in a bucket, .*; got /m"):
        _run(command, "/models/MLP", *rest)


@pytest.mark.parametrize("command", [set_policy, label, rollback])
def test_help_tells_what_happens_to_a_change(command: Command) -> None:
    said = " ".join(_run(command, "--help").split())
    assert "release function picks the change up by itself." in said
    assert "comments in that file are lost" in said
