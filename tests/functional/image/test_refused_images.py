"""References, images and folders that appending refuses."""

import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from lambda_serving.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from support.registry_wire import DOCKER, OCI, Repository, Wire


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
def test_list_of_images_is_refused(
    base: Repository, folder: Path, wire: Wire, types: Mapping[str, str]
) -> None:
    manifest = base.push(types)
    digest = base.push_manifest(manifest, types["manifest"])
    one = {
        "mediaType": types["manifest"],
        "digest": digest,
        "size": len(json.dumps(manifest)),
        "platform": {"architecture": "amd64", "os": "linux"},
    }
    index = {"schemaVersion": 2, "mediaType": types["index"], "manifests": [one]}
    base.push_manifest(index, types["index"])
    with pytest.raises(InvalidArgument) as refused:
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert str(refused.value) == (
        f"{base.tag('base')} is a list of images, one for each architecture. Name the one to append"
        f" to: {base.host}/{base.name}@sha256:DIGEST"
    )
    wire.append(f"{base.host}/{base.name}@{digest}", folder, base.tag("MLP-3"))


def test_anything_but_an_image_is_refused(base: Repository, folder: Path, wire: Wire) -> None:
    base.push({**OCI, "config": "application/vnd.cncf.helm.config.v1+json"})
    with pytest.raises(InvalidArgument, match="base is not an image of a program: its manifest is"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"[]", "is not a JSON object"),
        (b"{", "is not JSON: "),
        (b"[" * 200_000, "is not JSON: "),
        (b"{}", "is not an image of a program"),
        (b" " * (4 * 2**20 + 1), "it is larger than 4194304 bytes"),
    ],
    ids=["list", "broken", "deep", "empty", "large"],
)
def test_manifest_that_cannot_be_read_is_refused(
    base: Repository, folder: Path, wire: Wire, answer: bytes, reason: str
) -> None:
    wire.before = lambda _: httpx.Response(200, content=answer)
    with pytest.raises(InvalidArgument, match=reason) as refused:
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert base.tag("base") in str(refused.value)


@pytest.mark.parametrize("digest", ["sha512:" + "0" * 128, "sha256:0", "../../other"])
def test_digest_that_cannot_be_checked_is_refused(
    base: Repository, folder: Path, wire: Wire, digest: str
) -> None:
    manifest = base.push(OCI)
    manifest["layers"][0]["digest"] = digest
    wire.before = lambda _: httpx.Response(200, json=manifest)
    with pytest.raises(InvalidArgument, match="does not describe a blob with its size and sha256"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


def test_large_configuration_is_not_read(base: Repository, folder: Path, wire: Wire) -> None:
    base.push(OCI, {"author": "x" * 4 * 2**20})
    with pytest.raises(InvalidArgument, match="bytes; at most 4194304 can be read"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert len(wire.requests) == 1


def test_configuration_of_other_layers_is_refused(
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI, {"rootfs": {"diff_ids": []}})
    with pytest.raises(InvalidArgument, match="does not list the 2 layers of its manifest"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


def test_image_gets_as_many_layers_as_it_may_have(
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI, layers=126)
    wire.append(base.tag("base"), folder, base.tag("full"))
    assert len(base.manifest("full").json()["layers"]) == 127
    with pytest.raises(InvalidArgument, match="full has 127 layers, and an image has at most 127"):
        wire.append(base.tag("full"), folder, base.tag("more"))


@pytest.mark.parametrize("name", ["nowhere", "base"])
def test_unknown_tag_or_repository_is_not_found(
    base: Repository, target: Repository, folder: Path, wire: Wire, name: str
) -> None:
    base.push(OCI)
    unknown = base.tag("nowhere") if name == "nowhere" else target.tag("base")
    with pytest.raises(NotFound) as refused:
        wire.append(unknown, folder, base.tag("MLP-3"))
    assert str(refused.value).startswith(
        f"Could not read the manifest of {unknown}: the registry has no such repository, tag or"
        " blob. Correct the name or create it (it answered 404 "
    )


@pytest.mark.parametrize(
    "reference",
    [
        "library/python:3",
        "python",
        "localhost/Python:3",
        "localhost/python",
        "localhost/python:",
        "localhost/python@sha256:0",
        "localhost/a/../b:3",
        "http://localhost/python:3",
        "[::2]/python:3",
    ],
)
def test_bad_reference_is_refused(folder: Path, wire: Wire, reference: str) -> None:
    with pytest.raises(InvalidArgument, match=r"does not name an image: HOST/REPOSITORY:TAG or"):
        wire.append(reference, folder, reference)


def test_malformed_host_is_reported(folder: Path, wire: Wire) -> None:
    with pytest.raises(Unavailable, match=r"xn--a\.org/a:b: the address is malformed"):
        wire.append("xn--a.org/a:b", folder, "xn--a.org/a:c")


def test_target_without_a_tag_is_refused(folder: Path, wire: Wire) -> None:
    target = f"localhost/a@sha256:{'0' * 64}"
    with pytest.raises(InvalidArgument, match=f"cannot be written to {target}. Name a tag"):
        wire.append("localhost/a:b", folder, target)


def test_link_in_the_folder_is_refused_before_anything_is_sent(
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)
    (folder / "link").symlink_to("graph.pb")
    with pytest.raises(InvalidArgument, match="compiled/link is neither a file nor a folder"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert wire.sent == 0


def test_immutable_tag_is_told_in_the_words_of_the_registry(
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)
    said = b'{"errors": [{"code": "TAG_INVALID", "message": "The tag cannot be overwritten"}]}'
    wire.before = lambda request: (
        httpx.Response(400, content=said) if "/manifests/MLP-3" in request.url.path else None
    )
    with pytest.raises(AlreadyExists, match="is immutable.* .*The tag cannot be overwritten"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
