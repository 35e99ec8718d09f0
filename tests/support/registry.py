"""Debian's docker-registry, a real registry of images, as a process of its own."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

__all__ = ["PASSWORD", "USER", "put_base", "refuse_known_tags", "running", "tags", "unpack"]

USER, PASSWORD = "AWS", "token-of-ecr"
_HASH = "$2b$04$h8xHscnPE0Ol6yZxbzdf2.VKVofcjm52BquXYHxii2s0xL8czud7."
_LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")
_START_SECONDS, _STOP_SECONDS = 120, 30
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@contextmanager
def running(*, closed: bool = False) -> Iterator[str]:
    """The host of an empty registry, `127.0.0.1:PORT`; removed after the block.

    A closed one admits only `USER` with `PASSWORD`, and names its addresses without a host.
    """
    with tempfile.TemporaryDirectory() as name, Path(name, "log").open("w+b") as log:
        folder = Path(name)
        config = folder / "config.json"  # JSON is YAML
        config.write_text(json.dumps(_config(folder, closed=closed)))
        command = shutil.which("docker-registry")
        assert command, "docker-registry is missing. Debian has a package of that name"
        process = subprocess.Popen([command, "serve", config], stdout=log, stderr=log)
        try:
            yield _host(process, folder / "log")
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _config(folder: Path, *, closed: bool) -> Mapping[str, object]:
    users = folder / "htpasswd"
    users.write_text(f"{USER}:{_HASH}\n")
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(users)}}} if closed else {}
    return {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": "127.0.0.1:0", "relativeurls": closed},
        **auth,
    }


def _host(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline, pause = monotonic() + _START_SECONDS, threading.Event()
    while not (match := _LISTENING.search(log.read_text())):
        if process.poll() is not None or monotonic() > deadline:
            raise AssertionError(f"docker-registry did not start:\n{log.read_text()}")
        pause.wait(0.02)
    return match[1]


def put_base(repository: str, *environment: str) -> str:
    """An image in `HOST/NAME` that holds next to nothing, as `HOST/NAME@DIGEST`.

    It sets variables, each `NAME=VALUE`.
    """
    tar = io.BytesIO()
    tarfile.open(fileobj=tar, mode="w").close()
    layer = tar.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [*environment]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config),
        "layers": [_descriptor(_LAYER, layer)],
    }
    content = json.dumps(manifest).encode()
    with _client(repository) as client:
        for blob in (layer, config):
            upload = httpx.URL(client.post("blobs/uploads/").headers["Location"])
            target = upload.copy_merge_params({"digest": _digest(blob)})
            client.put(target, content=blob).raise_for_status()
        headers = {"Content-Type": _MANIFEST}
        client.put("manifests/base", content=content, headers=headers).raise_for_status()
    return f"{repository}@{_digest(content)}"


def unpack(image: str, folder: Path) -> dict[str, str]:
    """Unpacks the last layer of `HOST/NAME@DIGEST`; returns the environment of the image."""
    repository, _, digest = image.partition("@")
    with _client(repository) as client:
        manifest = client.get(f"manifests/{digest}", headers={"Accept": _MANIFEST}).json()
        layer = client.get(f"blobs/{manifest['layers'][-1]['digest']}").content
        config = client.get(f"blobs/{manifest['config']['digest']}").json()["config"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        tar.extractall(folder, filter="data")
    return dict(each.split("=", 1) for each in config.get("Env", []))


def refuse_known_tags(request: httpx.Request) -> httpx.Response | None:
    """Answers as ECR does, with immutable tags, to a tag that exists already."""
    if request.method != "PUT" or "/manifests/" not in request.url.path:
        return None
    accept = {"Accept": request.headers["Content-Type"]}
    if httpx.head(request.url, headers=accept).is_error:
        return None
    tag = request.url.path.rpartition("/")[2]
    message = (
        f"The image tag '{tag}' already exists in the repository and cannot be overwritten because"
        " the repository is immutable."
    )
    return httpx.Response(400, json={"errors": [{"code": "TAG_INVALID", "message": message}]})


def tags(repository: str) -> list[str]:
    """The tags in `HOST/NAME`."""
    with _client(repository) as client:
        return sorted(client.get("tags/list").json()["tags"])


def _client(repository: str) -> httpx.Client:
    host, _, name = repository.partition("/")
    return httpx.Client(base_url=f"http://{host}/v2/{name}/")


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}
