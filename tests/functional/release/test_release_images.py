"""Images of model versions in ECR, which is moto's."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from lambda_serving.errors import Unavailable
from lambda_serving.release.aws import images

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient

_HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> "Iterator[ECRClient]":
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        client = boto3.client("ecr")
        client.create_repository(repositoryName="stack/models")
        yield client
        client.close()


def _put(ecr: "ECRClient", tag: str) -> str:
    layers = [{"digest": f"sha256:{tag}", "size": 1}]  # which moto makes the digest of
    manifest = {"schemaVersion": 2, "config": {"digest": "sha256:0", "size": 1}, "layers": layers}
    put = ecr.put_image(
        repositoryName="stack/models",
        imageTag=tag,
        imageManifest=json.dumps(manifest),
        imageManifestMediaType="application/vnd.oci.image.manifest.v1+json",
    )
    return put["image"]["imageId"]["imageDigest"]


def _tags(ecr: "ECRClient") -> list[str]:
    found = ecr.list_images(repositoryName="stack/models")["imageIds"]
    return sorted(each["imageTag"] for each in found)


@pytest.mark.usefixtures("ecr")
def test_password_is_for_the_registry_of_the_repository() -> None:
    [(host, (user, password))] = images.passwords(f"{_HOST}/stack/models").items()
    assert (host, user, bool(password)) == (_HOST, "AWS", True)


@pytest.mark.usefixtures("ecr")
def test_one_password_is_for_all_registries_of_ecr() -> None:
    other = _HOST.replace("eu-west-1", "us-east-1")
    found = images.passwords(f"{_HOST}/models", f"{_HOST}/lite", f"{other}/a", "127.0.0.1:5000/b")
    assert found.keys() == {_HOST, other}
    assert found[_HOST] == found[other]


@pytest.mark.parametrize("repository", ["127.0.0.1:5000/models", "ecr.example.com/models"])
def test_other_registries_are_anonymous_and_keep_their_images(repository: str) -> None:
    assert images.passwords(repository) == {}
    images.delete(repository, "sha256:1")


def test_image_goes_with_its_tag_and_twice_is_no_harm(ecr: "ECRClient") -> None:
    gone = _put(ecr, "MLP-1")
    _put(ecr, "MLP-2")
    for _ in range(2):
        images.delete(f"{_HOST}/stack/models", gone)
        assert _tags(ecr) == ["MLP-2"]


@pytest.mark.usefixtures("ecr")
def test_repository_that_is_not_there_is_reported() -> None:
    with pytest.raises(Unavailable, match="AWS, asked about repository .*nothing"):
        images.delete(f"{_HOST}/nothing", "sha256:1")
