"""Appending to images in a real registry; what it cannot do is done to the wire before it."""

import gzip
import json
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lambda_serving.errors import (
    AlreadyExists,
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.image import Appended, Registry, append
from support.registry import PASSWORD, USER, refuse_known_tags, running

_OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    "index": "application/vnd.oci.image.index.v1+json",
}
_DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
}
_CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-02T03:04:05Z",
    "config": {"Env": ["PATH=/bin", "MODEL_VERSION=1"], "Labels": {"a": "1"}, "Cmd": ["h"]},
    "history": [{"created_by": "one"}, {"created_by": "two"}],
}
_PLACE = "/models/MLP/3"
_ENVIRONMENT = {"MODEL_VERSION": "3", "MODEL_NAME": "MLP"}
_LABELS = {"b": "2"}
_TLS = httpx.create_ssl_context()  # reading certificates is most of what a client takes
_REQUESTS = 18  # of an append that copies; a test counts them


@dataclass
class _Wire(httpx.BaseTransport):
    """The network: `before` may answer or raise, `after` may change an answer or raise."""

    before: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
    after: Callable[[httpx.Request, httpx.Response], httpx.Response] = lambda _, answer: answer
    requests: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    network: httpx.HTTPTransport = field(default_factory=lambda: httpx.HTTPTransport(_TLS))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.before(request)
        return answer or self.after(request, self.network.handle_request(request))

    def close(self) -> None:
        self.network.close()

    def append(
        self,
        base: str,
        folder: Path,
        target: str,
        passwords: Mapping[str, tuple[str, str]] | None = None,
    ) -> Appended:
        with httpx.Client(transport=self) as client:
            registry = Registry(client, passwords, sleep=self.pauses.append)
            return append(registry, base, folder, _PLACE, target, _ENVIRONMENT, _LABELS)

    @property
    def sent(self) -> int:
        return sum(int(request.headers.get("Content-Length", 0)) for request in self.requests)


class _Repository:
    """A repository as any client sees it."""

    def __init__(self, host: str, auth: tuple[str, str] | None = None) -> None:
        self.host, self.name = host, f"test/{uuid4()}"
        self._client = httpx.Client(
            base_url=f"http://{host}/v2/{self.name}/", auth=auth, verify=_TLS
        )

    def close(self) -> None:
        self._client.close()

    def tag(self, tag: str) -> str:
        return f"{self.host}/{self.name}:{tag}"

    def push_blob(self, content: bytes) -> dict[str, Any]:
        opened = self._client.post("blobs/uploads/")
        digest = f"sha256:{sha256(content).hexdigest()}"
        url = opened.url.join(opened.headers["Location"]).copy_merge_params({"digest": digest})
        assert self._client.put(url, content=content).status_code == 201
        return {"digest": digest, "size": len(content)}

    def push(
        self, types: Mapping[str, str], config: Mapping[str, Any] = _CONFIG, layers: int = 2
    ) -> dict[str, Any]:
        """An image as the tag `base`; its manifest."""
        tars = [f"layer {number} of {self.name}".encode() * 50 for number in range(layers)]
        diff_ids = [f"sha256:{sha256(tar).hexdigest()}" for tar in tars]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        content = json.dumps({"rootfs": rootfs, **config}).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": {"mediaType": types["config"], **self.push_blob(content)},
            "layers": [
                {"mediaType": types["layer"], **self.push_blob(gzip.compress(tar, mtime=0))}
                for tar in tars
            ],
        }
        self.push_manifest(manifest, types["manifest"])
        return manifest

    def push_manifest(self, manifest: Mapping[str, Any], media_type: str) -> str:
        answer = self._client.put(
            "manifests/base", content=json.dumps(manifest), headers={"Content-Type": media_type}
        )
        assert answer.status_code == 201, answer.text
        return answer.headers["Docker-Content-Digest"]

    def manifest(self, tag: str) -> httpx.Response:
        accept = ", ".join([_OCI["manifest"], _DOCKER["manifest"]])
        return self._client.get(f"manifests/{tag}", headers={"Accept": accept})

    def blob(self, descriptor: Mapping[str, Any]) -> bytes:
        answer = self._client.get(f"blobs/{descriptor['digest']}")
        assert answer.status_code == 200
        return answer.content


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with running() as host:
        yield host


@pytest.fixture(scope="module")
def closed() -> Iterator[str]:
    with running(closed=True) as host:
        yield host


@pytest.fixture
def wire() -> _Wire:
    return _Wire()


@pytest.fixture
def base(host: str) -> Iterator[_Repository]:
    repository = _Repository(host)
    yield repository
    repository.close()


@pytest.fixture
def target(host: str) -> Iterator[_Repository]:
    repository = _Repository(host)
    yield repository
    repository.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "compiled"
    (folder / "weights").mkdir(parents=True)
    (folder / "graph.pb").write_bytes(b"graph")
    (folder / "weights/0").write_bytes(bytes(range(256)) * 40)
    return folder


def _without_mount(request: httpx.Request) -> None:
    """A registry that does not mount opens an upload, as if it had not been asked to."""
    if "mount" in request.url.params:
        request.url = request.url.copy_with(query=None)


@pytest.mark.parametrize("types", [_OCI, _DOCKER], ids=["oci", "docker"])
def test_image_is_the_base_with_one_more_layer_and_settings(
    base: _Repository, target: _Repository, folder: Path, wire: _Wire, types: Mapping[str, str]
) -> None:
    before = base.push(types)
    appended = wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    answer = target.manifest("MLP-3")
    manifest = answer.json()
    added = manifest["layers"][-1]
    assert appended == Appended(f"sha256:{sha256(answer.content).hexdigest()}", wire.sent, new=True)
    assert answer.headers["Content-Type"] == types["manifest"]
    assert manifest == {
        **before,
        "config": {**manifest["config"], "mediaType": types["config"]},
        "layers": [*before["layers"], {**added, "mediaType": types["layer"]}],
    }
    tars = [zlib.decompress(target.blob(layer), wbits=31) for layer in manifest["layers"]]
    assert json.loads(target.blob(manifest["config"])) == {
        **_CONFIG,
        "config": {
            "Env": ["PATH=/bin", "MODEL_VERSION=3", "MODEL_NAME=MLP"],
            "Labels": {"a": "1", "b": "2"},
            "Cmd": ["h"],
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{sha256(tar).hexdigest()}" for tar in tars],
        },
        "history": [
            {"created_by": "one"},
            {"created_by": "two"},
            {
                "created": "1970-01-01T00:00:00Z",
                "created_by": f"lambda-serving append {_PLACE}",
            },
        ],
    }
    with tarfile.open(fileobj=BytesIO(tars[-1])) as tar:
        assert [(entry.name, entry.mode, entry.mtime) for entry in tar] == [
            ("models", 0o755, 0),
            ("models/MLP", 0o755, 0),
            ("models/MLP/3", 0o755, 0),
            ("models/MLP/3/graph.pb", 0o644, 0),
            ("models/MLP/3/weights", 0o755, 0),
            ("models/MLP/3/weights/0", 0o644, 0),
        ]


@pytest.mark.parametrize("config", [{}, {"config": None, "history": None}], ids=["none", "null"])
def test_base_without_settings_gets_them(
    base: _Repository, folder: Path, wire: _Wire, config: Mapping[str, Any]
) -> None:
    base.push(_OCI, config)
    wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    made = json.loads(base.blob(base.manifest("MLP-3").json()["config"]))
    assert made["config"] == {"Env": ["MODEL_VERSION=3", "MODEL_NAME=MLP"], "Labels": _LABELS}
    assert len(made["history"]) == 1


def test_base_may_be_named_by_its_digest(base: _Repository, folder: Path, wire: _Wire) -> None:
    digest = base.push_manifest(base.push(_OCI), _OCI["manifest"])
    by_digest = wire.append(f"{base.host}/{base.name}@{digest}", folder, base.tag("one"))
    assert wire.append(base.tag("base"), folder, base.tag("two")).digest == by_digest.digest


def test_second_append_sends_nothing(
    base: _Repository, target: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)
    first = wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    again = _Wire()
    assert again.append(base.tag("base"), folder, target.tag("MLP-3")) == Appended(
        first.digest, sent=0, new=False
    )
    assert {request.method for request in again.requests} == {"GET"}


def test_same_files_elsewhere_send_the_manifest_alone(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)
    first = wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    again = _Wire()
    second = again.append(base.tag("base"), folder, base.tag("other"))
    size = len(base.manifest("other").content)
    assert (second, again.sent) == (Appended(first.digest, size, new=True), size)


def test_another_byte_replaces_the_tag(base: _Repository, folder: Path, wire: _Wire) -> None:
    base.push(_OCI)
    first = wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    (folder / "graph.pb").write_bytes(b"grapH")
    second = wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert (second.new, second.digest != first.digest) == (True, True)
    assert base.manifest("MLP-3").headers["Docker-Content-Digest"] == second.digest


def test_tag_with_the_digest_is_of_one_image_and_immutable_repositories_take_it(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)
    wire.before = refuse_known_tags
    first = wire.append(base.tag("base"), folder, base.tag("MLP-3-{digest}"))
    again = wire.append(base.tag("base"), folder, base.tag("MLP-3-{digest}"))
    assert again == Appended(first.digest, sent=0, new=False)
    wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    (folder / "graph.pb").write_bytes(b"other")
    second = wire.append(base.tag("base"), folder, base.tag("MLP-3-{digest}"))
    for appended in (first, second):
        tag = f"MLP-3-{appended.digest.removeprefix('sha256:')[:16]}"
        assert f"sha256:{sha256(base.manifest(tag).content).hexdigest()}" == appended.digest
    with pytest.raises(AlreadyExists, match="the repository is immutable. Name a tag that is not"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


def test_image_whose_acknowledgement_is_lost_is_not_refused_as_one_that_is_there(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)
    lost: list[httpx.Request] = []

    def lose(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.method == "PUT" and "/manifests/" in request.url.path and not lost:
            lost.append(request)
            raise httpx.ReadError("gone")
        return answer

    wire.before, wire.after = refuse_known_tags, lose
    assert wire.append(base.tag("base"), folder, base.tag("MLP-3-{digest}")).new
    assert lost


def test_layers_of_another_repository_are_mounted_and_not_sent(
    base: _Repository, target: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)
    appended = wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    manifest = target.manifest("MLP-3")
    document = manifest.json()
    sizes = [document["layers"][-1]["size"], document["config"]["size"], len(manifest.content)]
    puts = [request for request in wire.requests if request.method == "PUT"]
    assert [int(request.headers["Content-Length"]) for request in puts] == sizes
    assert appended.sent == wire.sent == sum(sizes)


def test_layers_are_copied_where_the_registry_does_not_mount(
    base: _Repository, target: _Repository, folder: Path
) -> None:
    manifest, wire = base.push(_OCI), _Wire(_without_mount)
    appended = wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert appended.sent == wire.sent > sum(layer["size"] for layer in manifest["layers"])
    assert [target.blob(layer) for layer in manifest["layers"]] == [
        base.blob(layer) for layer in manifest["layers"]
    ]
    assert [request.method for request in wire.requests] == [
        *["GET", "GET", "GET"],  # the base's manifest and configuration, the target's manifest
        *["HEAD", "POST", "PUT", "GET"] * 2,  # the body of PUT is that of GET
        *["HEAD", "POST", "PUT"] * 2,
        "PUT",
    ]
    assert len(wire.requests) == _REQUESTS


def test_layers_are_copied_from_another_registry(
    base: _Repository, closed: str, folder: Path, wire: _Wire
) -> None:
    base.push(_DOCKER)
    target = _Repository(closed, (USER, PASSWORD))
    passwords = {closed: (USER, PASSWORD)}
    appended = wire.append(base.tag("base"), folder, target.tag("MLP-3"), passwords)
    assert target.manifest("MLP-3").headers["Docker-Content-Digest"] == appended.digest
    target.close()
    authorized = {
        f"{request.url.host}:{request.url.port}"
        for request in wire.requests
        if "Authorization" in request.headers
    }
    assert authorized == {closed}


@pytest.mark.parametrize("place", range(_REQUESTS))
@pytest.mark.parametrize("received", [False, True], ids=["not received", "answer lost"])
def test_append_survives_one_dropped_connection(
    base: _Repository, target: _Repository, folder: Path, place: int, *, received: bool
) -> None:
    base.push(_OCI)
    wire = _Wire()

    def before(request: httpx.Request) -> None:
        _without_mount(request)
        if len(wire.requests) == place + 1 and not received:
            assert isinstance(request.stream, httpx.SyncByteStream)
            next(iter(request.stream), None)
            raise httpx.WriteError("dropped")

    def after(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if received and wire.requests.index(request) == place:
            answer.read()
            raise httpx.ReadError("dropped")
        return answer

    wire.before, wire.after = before, after
    appended = wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert target.manifest("MLP-3").headers["Docker-Content-Digest"] == appended.digest
    assert wire.pauses == [0.5]


@pytest.mark.parametrize("place", range(_REQUESTS))
def test_network_that_is_gone_is_told_and_leaves_no_tag(
    base: _Repository, target: _Repository, folder: Path, place: int
) -> None:
    base.push(_OCI)
    wire = _Wire()

    def before(request: httpx.Request) -> None:
        _without_mount(request)
        if len(wire.requests) > place:
            raise httpx.ReadError("dropped")

    wire.before = before
    with pytest.raises(Unavailable, match=r"^Could not .*the connection failed \(ReadError: drop"):
        wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert target.manifest("MLP-3").status_code == 404
    assert wire.pauses == [0.5, 1, 2, 4]


@pytest.mark.parametrize(
    ("place", "status"), [(place, (429, 500, 503)[place % 3]) for place in range(_REQUESTS)]
)
def test_append_waits_for_a_busy_registry(
    base: _Repository, target: _Repository, folder: Path, place: int, status: int
) -> None:
    base.push(_OCI)
    wire = _Wire()

    def before(request: httpx.Request) -> httpx.Response | None:
        _without_mount(request)
        busy = place < len(wire.requests) <= place + 2
        return httpx.Response(status, content=b"busy") if busy else None

    wire.before = before
    wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert wire.pauses == [0.5, 1]


def test_registry_that_stays_broken_is_told(base: _Repository, folder: Path, wire: _Wire) -> None:
    wire.before = lambda _: httpx.Response(503, content=b'{"errors":\n []}')
    with pytest.raises(Unavailable) as refused:
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert str(refused.value) == (
        f"Could not read the manifest of {base.tag('base')}: the registry is busy or broken. Try"
        ' again later (it answered 503 {"errors": []})'
    )
    assert len(wire.requests) == 5


def test_nobody_at_the_address_is_told(folder: Path, wire: _Wire) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/a:b: the connection failed .*refused"):
        wire.append("127.0.0.1:1/a:b", folder, "127.0.0.1:1/a:c")


def _flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize("change", [_flipped, lambda content: content[:-1], lambda c: c + b"x"])
@pytest.mark.parametrize("which", ["config", "layer"])
def test_other_bytes_than_were_asked_for_are_data_loss(
    base: _Repository,
    target: _Repository,
    folder: Path,
    which: str,
    change: Callable[[bytes], bytes],
) -> None:
    manifest = base.push(_OCI)
    blob = {"config": manifest["config"], "layer": manifest["layers"][1]}[which]

    def after(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.method == "GET" and request.url.path.endswith(blob["digest"]):
            return httpx.Response(200, content=change(answer.read()))
        return answer

    wire = _Wire(_without_mount, after)
    with pytest.raises(DataLoss) as refused:
        wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert str(refused.value) == (
        f"Could not read {blob['digest']} of {base.host}/{base.name}: its digest or size is wrong"
        ". Push it again"
    )
    assert target.manifest("MLP-3").status_code == 404


def test_manifest_that_is_not_the_one_asked_for_is_data_loss(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    digest = base.push_manifest(base.push(_OCI), _OCI["manifest"])
    wire.after = lambda _, answer: httpx.Response(200, content=answer.read() + b" ")
    with pytest.raises(DataLoss, match=f"{digest}: its digest is sha256:"):
        wire.append(f"{base.host}/{base.name}@{digest}", folder, base.tag("MLP-3"))


def test_bytes_that_change_on_the_way_to_the_registry_are_data_loss(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)

    def before(request: httpx.Request) -> None:
        if request.method == "PUT":
            assert isinstance(request.stream, httpx.SyncByteStream)
            request.stream = httpx.ByteStream(_flipped(b"".join(request.stream)))

    wire.before = before
    with pytest.raises(DataLoss, match="the registry received other bytes than were sent"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert base.manifest("MLP-3").status_code == 404


@pytest.mark.parametrize("types", [_OCI, _DOCKER], ids=["oci", "docker"])
def test_list_of_images_is_refused(
    base: _Repository, folder: Path, wire: _Wire, types: Mapping[str, str]
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


def test_what_is_not_an_image_is_refused(base: _Repository, folder: Path, wire: _Wire) -> None:
    base.push({**_OCI, "config": "application/vnd.cncf.helm.config.v1+json"})
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
    base: _Repository, folder: Path, wire: _Wire, answer: bytes, reason: str
) -> None:
    wire.before = lambda _: httpx.Response(200, content=answer)
    with pytest.raises(InvalidArgument, match=reason) as refused:
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert base.tag("base") in str(refused.value)


@pytest.mark.parametrize("digest", ["sha512:" + "0" * 128, "sha256:0", "../../other"])
def test_digest_that_cannot_be_checked_is_refused(
    base: _Repository, folder: Path, wire: _Wire, digest: str
) -> None:
    manifest = base.push(_OCI)
    manifest["layers"][0]["digest"] = digest
    wire.before = lambda _: httpx.Response(200, json=manifest)
    with pytest.raises(InvalidArgument, match="does not describe a blob with its size and sha256"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


def test_large_configuration_is_not_read(base: _Repository, folder: Path, wire: _Wire) -> None:
    base.push(_OCI, {"author": "x" * 4 * 2**20})
    with pytest.raises(InvalidArgument, match="bytes; at most 4194304 can be read"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert len(wire.requests) == 1


def test_configuration_of_other_layers_is_refused(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI, {"rootfs": {"diff_ids": []}})
    with pytest.raises(InvalidArgument, match="does not list the 2 layers of its manifest"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


def test_image_gets_as_many_layers_as_it_may_have(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI, layers=126)
    wire.append(base.tag("base"), folder, base.tag("full"))
    assert len(base.manifest("full").json()["layers"]) == 127
    with pytest.raises(InvalidArgument, match="full has 127 layers, and an image has at most 127"):
        wire.append(base.tag("full"), folder, base.tag("more"))


@pytest.mark.parametrize("name", ["nowhere", "base"])
def test_unknown_tag_or_repository_is_not_found(
    base: _Repository, target: _Repository, folder: Path, wire: _Wire, name: str
) -> None:
    base.push(_OCI)
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
def test_bad_reference_is_refused(folder: Path, wire: _Wire, reference: str) -> None:
    with pytest.raises(InvalidArgument, match=r"does not name an image: HOST/REPOSITORY:TAG or"):
        wire.append(reference, folder, reference)


def test_malformed_host_is_told(folder: Path, wire: _Wire) -> None:
    with pytest.raises(Unavailable, match=r"xn--a\.org/a:b: the address is malformed"):
        wire.append("xn--a.org/a:b", folder, "xn--a.org/a:c")


def test_target_without_a_tag_is_refused(folder: Path, wire: _Wire) -> None:
    target = f"localhost/a@sha256:{'0' * 64}"
    with pytest.raises(InvalidArgument, match=f"cannot be written to {target}. Name a tag"):
        wire.append("localhost/a:b", folder, target)


def test_link_in_the_folder_is_refused_before_anything_is_sent(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)
    (folder / "link").symlink_to("graph.pb")
    with pytest.raises(InvalidArgument, match="compiled/link is neither a file nor a folder"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert wire.sent == 0


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("localhost", "http"),
        ("localhost:5000", "http"),
        ("127.0.0.1:5000", "http"),
        ("[::1]:5000", "http"),
        ("1.dkr.ecr.eu-west-1.amazonaws.com", "https"),
        ("127.0.0.1.example.org:5000", "https"),
        ("localhost.example.org", "https"),
    ],
)
def test_only_this_machine_is_asked_without_encryption(
    folder: Path, wire: _Wire, host: str, scheme: str
) -> None:
    wire.before = lambda _: httpx.Response(404)
    with pytest.raises(NotFound):
        wire.append(f"{host}/a:b", folder, f"{host}/a:c")
    [request] = wire.requests
    assert str(request.url) == f"{scheme}://{host}/v2/a/manifests/b"


def test_redirect_to_storage_takes_no_credentials_along(folder: Path, wire: _Wire) -> None:
    def before(request: httpx.Request) -> httpx.Response:
        if request.url.host != "registry.example.org":
            return httpx.Response(404)
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": "Basic realm=x"})
        return httpx.Response(307, headers={"Location": "https://storage.example.org/x"})

    wire.before = before
    passwords = {"registry.example.org": (USER, PASSWORD)}
    with pytest.raises(NotFound):
        wire.append("registry.example.org/a:b", folder, "registry.example.org/a:c", passwords)
    assert [
        (request.url.host, "Authorization" in request.headers) for request in wire.requests
    ] == [
        ("registry.example.org", False),
        ("registry.example.org", True),
        ("storage.example.org", False),
    ]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://storage.example.org/", "http://storage.example.org, which is not encrypted"),
        ("https://a.example.org/v2/a/manifests/b", "the registry redirects without end"),
        ("https://a.example.org:x/", "Invalid URL in location header"),
    ],
)
def test_redirect_that_leads_nowhere_is_told(
    folder: Path, wire: _Wire, location: str, reason: str
) -> None:
    wire.before = lambda _: httpx.Response(307, headers={"Location": location})
    with pytest.raises(Unavailable, match=reason):
        wire.append("a.example.org/a:b", folder, "a.example.org/a:c")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ({}, "the registry named no place to upload to"),
        ({"Location": "http://storage.example.org/"}, "storage.example.org, which is not encrypt"),
        ({"Location": "https://a:x/"}, "the address is malformed"),
    ],
)
def test_upload_that_leads_nowhere_is_told(
    base: _Repository, folder: Path, wire: _Wire, location: Mapping[str, str], reason: str
) -> None:
    base.push(_OCI)
    wire.before = lambda request: (
        httpx.Response(202, headers=location) if request.method == "POST" else None
    )
    with pytest.raises(Unavailable, match=reason):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


def test_immutable_tag_is_told_in_the_words_of_the_registry(
    base: _Repository, folder: Path, wire: _Wire
) -> None:
    base.push(_OCI)
    said = b'{"errors": [{"code": "TAG_INVALID", "message": "The tag cannot be overwritten"}]}'
    wire.before = lambda request: (
        httpx.Response(400, content=said) if "/manifests/MLP-3" in request.url.path else None
    )
    with pytest.raises(AlreadyExists, match="is immutable.* .*The tag cannot be overwritten"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


class TestClosedRegistry:
    @pytest.fixture
    def base(self, closed: str) -> Iterator[_Repository]:
        repository = _Repository(closed, (USER, PASSWORD))
        repository.push(_DOCKER)
        yield repository
        repository.close()

    def test_takes_the_password_of_its_host(
        self, base: _Repository, folder: Path, wire: _Wire
    ) -> None:
        target = f"{base.host}/other/{uuid4()}:MLP-3"
        appended = wire.append(base.tag("base"), folder, target, {base.host: (USER, PASSWORD)})
        assert appended.new
        asked = [request for request in wire.requests if "Authorization" not in request.headers]
        assert [request.method for request in asked] == ["GET", "GET"]  # one per repository

    @pytest.mark.parametrize(
        ("passwords", "reason"),
        [
            ({}, "asks for a user and a password. Give them; for ECR, use AWS and the token"),
            ({"elsewhere": (USER, PASSWORD)}, "asks for a user and a password"),
            ({"HOST": (USER, "wr0ng")}, "does not accept these credentials. Renew them"),
        ],
        ids=["none", "another host's", "wrong"],
    )
    def test_refuses_others(
        self,
        base: _Repository,
        folder: Path,
        wire: _Wire,
        passwords: Mapping[str, tuple[str, str]],
        reason: str,
    ) -> None:
        by_host = {base.host if name == "HOST" else name: p for name, p in passwords.items()}
        with pytest.raises(PermissionDenied, match=reason) as refused:
            wire.append(base.tag("base"), folder, base.tag("MLP-3"), by_host)
        assert "wr0ng" not in str(refused.value)
        assert PASSWORD not in str(refused.value)


@dataclass
class _Tokens:
    """A registry that takes bearers of tokens only, which its own service hands out.

    A token is good for its scope and for some requests.
    """

    lives: int = 1000
    asked: list[tuple[str | None, list[str]]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/token":
            assert request.url.params["account"] == "a"  # of the realm itself
            assert request.url.params["service"] == "the registry"
            scopes = request.url.params.get_list("scope")
            self.asked.append((request.headers.get("Authorization"), scopes))
            token = f"{len(self.asked)} {' '.join(scopes)}"
            self.left[token] = self.lives
            return httpx.Response(200, json={"token": token})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        scope = self._scope(request)
        if set(scope.split()) <= set(token.split()[1:]) and self.left[token]:
            self.left[token] -= 1
            return None
        realm = request.url.copy_with(path="/token", query=b"account=a")
        challenge = f'Bearer realm="{realm}",service="the registry",scope="{scope}"'
        return httpx.Response(401, headers={"WWW-Authenticate": challenge})

    @staticmethod
    def _scope(request: httpx.Request) -> str:
        name = "/".join(request.url.path.split("/")[2:4])
        actions = "pull" if request.method in {"GET", "HEAD"} else "pull,push"
        mounted = request.url.params.get("from")
        return f"repository:{name}:{actions}" + (f" repository:{mounted}:pull" if mounted else "")


@pytest.mark.parametrize("lives", [1000, 1], ids=["long", "one request"])
def test_bearers_fetch_tokens_as_they_are_asked_to(
    base: _Repository, target: _Repository, folder: Path, lives: int
) -> None:
    base.push(_OCI)
    tokens = _Tokens(lives)
    appended = _Wire(tokens).append(base.tag("base"), folder, target.tag("MLP-3"))
    assert target.manifest("MLP-3").headers["Docker-Content-Digest"] == appended.digest
    pull, push = f"repository:{base.name}:pull", f"repository:{target.name}:pull,push"
    assert (None, [pull]) in tokens.asked
    assert (None, [push, pull]) in tokens.asked


def test_bearers_show_their_password_to_the_token_service_alone(
    base: _Repository, folder: Path
) -> None:
    base.push(_OCI)
    tokens = _Tokens()
    wire = _Wire(tokens)
    wire.append(base.tag("base"), folder, base.tag("MLP-3"), {base.host: ("user", "password")})
    assert {shown for shown, _ in tokens.asked} == {"Basic dXNlcjpwYXNzd29yZA=="}
    assert all(
        request.headers.get("Authorization", "Bearer").startswith("Bearer")
        for request in wire.requests
        if request.url.path != "/token"
    )


def test_upload_to_storage_takes_no_credentials_along_and_is_not_redirected(
    base: _Repository, folder: Path
) -> None:
    base.push(_OCI)
    tokens = _Tokens()

    def before(request: httpx.Request) -> httpx.Response | None:
        if request.url.host == "storage.example.org":
            return httpx.Response(307, headers={"Location": "/elsewhere"})
        answer = tokens(request)
        if answer is None and request.method == "POST":
            return httpx.Response(202, headers={"Location": "https://storage.example.org/a"})
        return answer

    wire = _Wire(before)
    with pytest.raises(Unavailable, match=r"the registry refuses \(it answered 307"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    [stored] = [request for request in wire.requests if request.url.host == "storage.example.org"]
    assert "Authorization" not in stored.headers


@pytest.mark.parametrize(
    ("realm", "answer", "kind", "reason"),
    [
        ("https://a.org/token", httpx.Response(403), PermissionDenied, "access is denied"),
        ("https://a.org/token", httpx.Response(200), Unavailable, "a.org gave no token to a.org/a"),
        ("https://a.org/token", httpx.Response(200, json=[]), Unavailable, "a.org gave no token"),
        ("https://a.org/token", httpx.Response(200, json={}), Unavailable, "a.org gave no token"),
        ("http://a.org/token", httpx.Response(200), Unavailable, "a.org, which is not encrypted"),
        ("", httpx.Response(200), Unavailable, "which is not encrypted"),
        ("https://a:x/", httpx.Response(200), Unavailable, "the address is malformed"),
    ],
)
def test_token_that_is_not_given_is_told(
    folder: Path,
    wire: _Wire,
    realm: str,
    answer: httpx.Response,
    kind: type[ServingError],
    reason: str,
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    wire.before = lambda request: (
        answer if request.url.path == "/token" else httpx.Response(401, headers=challenge)
    )
    with pytest.raises(kind, match=reason) as refused:
        wire.append("a.org/a:b", folder, "a.org/a:c", {"a.org": ("user", "p4ssword")})
    assert "p4ssword" not in str(refused.value)


_MEASURED = r"""
import re, sys
from pathlib import Path
from lambda_serving.image import Registry, append, open_client

def peak():
    # getrusage would count the process that started this one
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) // 1024

_, base, folder, near, far = sys.argv
with open_client() as client:
    registry = Registry(client)
    append(registry, base, Path(__file__).parent / "small", "/small", near)
    before = peak()
    append(registry, base, Path(folder), "/models/m/1", near)
    append(registry, near, Path(__file__).parent / "small", "/small", far)
    print(peak() - before)
"""


def test_large_files_and_layers_do_not_pass_through_memory(
    base: _Repository, tmp_path: Path
) -> None:
    base.push(_OCI)
    program = tmp_path / "append.py"
    program.write_text(_MEASURED)
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    noise = b"".join(sha256(bytes([n % 256, n // 256])).digest() for n in range(2**15))
    with (tmp_path / "large/weights").open("wb") as file:
        for _ in range(200):
            file.write(noise)  # a window of gzip does not see it twice
    with running() as elsewhere:
        command = [sys.executable, str(program), base.tag("base"), str(tmp_path / "large")]
        targets = [base.tag("large"), f"{elsewhere}/copy:large"]
        ended = subprocess.run([*command, *targets], stdout=subprocess.PIPE, check=True)
    assert sum(layer["size"] for layer in base.manifest("large").json()["layers"]) > 200 * 2**20
    assert int(ended.stdout) < 50
