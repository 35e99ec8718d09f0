"""A network to registries that tests can disturb, and repositories as any client sees them."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from lambda_serving.image import Appended, Registry, append

__all__ = [
    "CONFIG",
    "DOCKER",
    "ENVIRONMENT",
    "LABELS",
    "OCI",
    "PLACE",
    "REQUESTS",
    "Repository",
    "Wire",
    "without_mount",
]

OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    "index": "application/vnd.oci.image.index.v1+json",
}
DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
}
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-02T03:04:05Z",
    "config": {"Env": ["PATH=/bin", "MODEL_VERSION=1"], "Labels": {"a": "1"}, "Cmd": ["h"]},
    "history": [{"created_by": "one"}, {"created_by": "two"}],
}
PLACE = "/models/MLP/3"
ENVIRONMENT = {"MODEL_VERSION": "3", "MODEL_NAME": "MLP"}
LABELS = {"b": "2"}
_TLS = httpx.create_ssl_context()  # reading certificates is most of what a client takes
REQUESTS = 18  # of an append that copies layers; a test counts them


@dataclass
class Wire(httpx.BaseTransport):
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
            return append(registry, base, folder, PLACE, target, ENVIRONMENT, LABELS)

    @property
    def sent(self) -> int:
        return sum(int(request.headers.get("Content-Length", 0)) for request in self.requests)


class Repository:
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
        self, types: Mapping[str, str], config: Mapping[str, Any] = CONFIG, layers: int = 2
    ) -> dict[str, Any]:
        """Pushes an image as the tag `base`; returns its manifest."""
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
        accept = ", ".join([OCI["manifest"], DOCKER["manifest"]])
        return self._client.get(f"manifests/{tag}", headers={"Accept": accept})

    def blob(self, descriptor: Mapping[str, Any]) -> bytes:
        answer = self._client.get(f"blobs/{descriptor['digest']}")
        assert answer.status_code == 200
        return answer.content


def without_mount(request: httpx.Request) -> None:
    """Makes a registry open an upload as if no mount had been requested."""
    if "mount" in request.url.params:
        request.url = request.url.copy_with(query=None)
