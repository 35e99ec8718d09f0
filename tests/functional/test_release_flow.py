"""A push becomes the live version: bucket, registry, images and handler real, Lambda a stand-in."""

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

import emulator
import registry
from lambda_plane import Plane, serving
from lambda_serving.store.manifest import MANIFEST, Manifest
from server_process import COMMAND

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture
def repository() -> Iterator[str]:
    """A repository with an image `base` that holds next to nothing."""
    with registry.running() as host, httpx.Client(base_url=f"http://{host}/v2/models/") as client:
        tar = io.BytesIO()
        tarfile.open(fileobj=tar, mode="w").close()
        layer = tar.getvalue()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        for blob in (layer, config):
            upload = httpx.URL(client.post("blobs/uploads/").headers["Location"])
            target = upload.copy_merge_params({"digest": _digest(blob)})
            client.put(target, content=blob).raise_for_status()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
        headers = {"Content-Type": _MANIFEST}
        client.put("manifests/base", content=json.dumps(manifest), headers=headers)
        yield f"{host}/models"


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The base path of the model, in a bucket of moto's server; settings of AWS that lead there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    client = boto3.client("s3")
    name = f"flow-{uuid4()}"
    client.create_bucket(Bucket=name)
    client.close()
    yield f"s3://{name}/models/half"
    server.stop()


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    """The function, whose versions run the handler on what is in their image, emulated."""
    transport = httpx.HTTPTransport(retries=5)  # until the emulator listens
    with ExitStack() as stack, httpx.Client(transport=transport, timeout=60) as client:

        @cache
        def start(image: str) -> str:
            folder = tmp_path / image.rpartition(":")[2]
            _unpack_last_layer(image, folder)
            environment = {"MODEL_NAME": "half", "MODEL_BASE_PATH": f"{folder}/models/half"}
            return stack.enter_context(emulator.running(environment))

        def run(image: str, event: Any) -> Any:
            returned = emulator.invoke(client, start(image), event)
            if "errorMessage" in returned:
                raise RuntimeError(returned["errorMessage"])
            return returned

        plane = Plane("system-half", "127.0.0.1/models@sha256:template", run)
        with serving(plane) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", endpoint)
            yield plane


def _unpack_last_layer(image: str, folder: Path) -> None:
    repository, _, digest = image.partition("@")
    host, _, name = repository.partition("/")
    with httpx.Client(base_url=f"http://{host}/v2/{name}/") as client:
        manifest = client.get(f"manifests/{digest}", headers={"Accept": _MANIFEST}).json()
        layer = client.get(f"blobs/{manifest['layers'][-1]['digest']}").content
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        tar.extractall(folder, filter="data")


def _command(*arguments: str | Path) -> tuple[int, str, str]:
    ended = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=180
    )
    return ended.returncode, ended.stdout, ended.stderr


def _answer(plane: Plane) -> Any:
    return plane.invoke({"instances": [2.0]})


def test_pushed_versions_go_live_one_after_the_other_and_back(
    models_dir: Path, bucket: str, repository: str, plane: Plane
) -> None:
    def release(*flags: str) -> tuple[int, str, str]:
        where = (f"--function={plane.name}", f"--repository={repository}")
        return _command("reconcile", bucket, *where, *flags)

    assert release()[:2] == (0, "")  # nothing is pushed yet
    assert _command("push", models_dir / "two_versions/1", f"{bucket}/1")[0] == 0
    assert release("--dry-run")[1].splitlines()[-1] == "Next: Build(version=1)"
    code, said, _ = release()
    assert (code, said.splitlines()[-1]) == (0, "Point(function_version=2)")
    assert _answer(plane) == {"predictions": [3.0]}

    assert _command("push", models_dir / "two_versions/2", f"{bucket}/2")[0] == 0
    assert release()[0] == 0
    assert _answer(plane) == {"predictions": [4.0]}
    assert release()[:2] == (0, "")
    *table, last = release("--dry-run")[1].splitlines()
    assert last == "Nothing is to be done"
    assert [line.split("│")[1:4] for line in table if line.startswith("│")] == [
        [" 2       ", " live  ", " 3                "],
        [" 1       ", " warm  ", " 2                "],
    ]

    assert release("--version=1")[1] == "Point(function_version=2)\n"
    assert _answer(plane) == {"predictions": [3.0]}


def test_version_whose_warm_up_fails_is_refused_and_recorded(
    models_dir: Path, bucket: str, repository: str, plane: Plane
) -> None:
    export = models_dir / "warmup_fails/1"
    code, _, said = _command("push", export, f"{bucket}/1")
    assert code == 1
    assert re.search("Warm-up record 0 .* failed: Matrix size-incompatible", said)

    name = bucket.removeprefix("s3://").partition("/")[0]
    client = boto3.client("s3")
    for path in filter(Path.is_file, export.rglob("*")):  # as who does not use this command
        key = f"models/half/1/{path.relative_to(export)}"
        client.put_object(Bucket=name, Key=key, Body=path.read_bytes())
    manifest = Manifest.of(export).to_json()
    client.put_object(Bucket=name, Key=f"models/half/1/{MANIFEST}", Body=manifest)

    where = (f"--function={plane.name}", f"--repository={repository}")
    code, said, _ = _command("reconcile", bucket, *where)
    assert (code, said.splitlines()[-1]) == (0, "Warm(version=1, function_version=2)")
    record = client.get_object(Bucket=name, Key="models/_releases/half/1.json")
    document = json.loads(record["Body"].read())
    client.close()
    assert document["state"] == "FAILED"
    assert "Warm-up record 0" in document["error"]
    assert plane.live == 1


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--function=nowhere", "--repository=127.0.0.1:9/x"], "asked about function nowhere"),
        (["--function=system-half"], "Missing option '--repository'"),
    ],
)
def test_what_is_wrong_is_told(bucket: str, plane: Plane, flags: list[str], reason: str) -> None:
    assert plane.name == "system-half"
    code, _, said = _command("reconcile", bucket, *flags)
    assert code != 0
    assert "Traceback" not in said
    assert reason in said
