"""A push becomes the live version, by events alone: registry, images, handlers real.

S3, its events and queue are moto's, Lambda's control plane is `aws_plane`.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

import cloud
import emulator
import registry
from aws_plane import Plane
from cloud import SYSTEM, Cloud
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


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with cloud.moto() as endpoint:
        yield endpoint


@pytest.fixture
def deployed(moto: str, repository: str, tmp_path: Path) -> Iterator[Cloud]:
    """The model `half`, whose versions run the handler on what is in their image, emulated."""
    transport = httpx.HTTPTransport(retries=5)  # until the emulator listens
    with ExitStack() as stack, httpx.Client(transport=transport, timeout=60) as client:

        @cache
        def start(image: str) -> str:
            folder = tmp_path / image.rpartition(":")[2]
            _unpack_last_layer(image, folder)
            environment = {"MODEL_NAME": "half", "MODEL_BASE_PATH": f"{folder}/models/half"}
            return stack.enter_context(emulator.running(environment))

        def run(image: str, event: Any, _: str) -> Any:
            returned = emulator.invoke(client, start(image), event)
            if "errorMessage" in returned:
                raise RuntimeError(returned["errorMessage"])
            return returned

        deployed = stack.enter_context(cloud.running(Plane(run=run), moto))
        deployed.deploy_base(f"{repository}@{_digest_of(repository)}")
        deployed.deploy_build()
        deployed.deploy_model("half", f"{repository}@sha256:template")
        yield deployed


def _digest_of(repository: str) -> str:
    host, _, name = repository.partition("/")
    answer = httpx.head(f"http://{host}/v2/{name}/manifests/base", headers={"Accept": _MANIFEST})
    return answer.headers["Docker-Content-Digest"]


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


def _answer(deployed: Cloud) -> Any:
    return deployed.plane.functions[f"{SYSTEM}-half"].invoke({"instances": [2.0]})


def _copy(export: Path, deployed: Cloud, version: int) -> None:
    """As `aws s3 sync` does."""
    for path in filter(Path.is_file, export.rglob("*")):
        key = f"models/half/{version}/{path.relative_to(export)}"
        deployed.s3.put_object(Bucket=deployed.bucket, Key=key, Body=path.read_bytes())


def test_pushed_versions_go_live_one_after_the_other_and_back(
    models_dir: Path, deployed: Cloud
) -> None:
    base_path, stack = f"{deployed.models}/half", f"--stack={SYSTEM}"
    for version, answer in ((1, 3.0), (2, 4.0)):
        source = models_dir / "two_versions" / str(version)
        assert _command("push", source, f"{base_path}/{version}")[0] == 0
        deployed.settle()
        assert _answer(deployed) == {"predictions": [answer]}
    code, said, _ = _command("status", base_path, stack)
    *table, last = said.splitlines()
    assert (code, last) == (0, "Nothing is to be done")
    cells = [[cell.strip() for cell in line.split("│")[1:6]] for line in table if "│" in line]
    assert cells == [
        ["2", "AVAILABLE", "", "live", "3"],
        ["1", "AVAILABLE", "", "", "2"],
    ]

    assert _command("rollback", base_path)[0] == 0
    assert _command("reconcile", base_path, stack, "--dry-run")[1] == "Point(function_version=2)\n"
    deployed.settle()
    assert _answer(deployed) == {"predictions": [3.0]}


def test_same_bytes_pushed_twice_change_nothing(models_dir: Path, deployed: Cloud) -> None:
    source, version = models_dir / "two_versions/1", f"{deployed.models}/half/1"
    assert _command("push", source, version)[0] == 0
    deployed.settle()
    before = deployed.record("half", 1)
    calls = len(deployed.plane.calls)
    assert "Nothing to do" in _command("push", source, version)[1]
    deployed.s3.delete_object(Bucket=deployed.bucket, Key="models/_releases/half/1.json")
    deployed.settle()  # so it is built again, to the same image
    assert deployed.record("half", 1)["image"] == before["image"]
    assert not {"UpdateFunctionCode", "PublishVersion"} & {*deployed.plane.calls[calls:]}


def test_lost_event_is_made_good_once_an_hour(models_dir: Path, deployed: Cloud) -> None:
    assert _command("push", models_dir / "two_versions/1", f"{deployed.models}/half/1")[0] == 0
    deployed.sqs.purge_queue(QueueUrl=deployed.queue_url)
    deployed.settle()
    assert deployed.plane.functions[f"{SYSTEM}-half"].aliases["live"].function_version == 1
    deployed.repair("half")
    deployed.settle()
    assert _answer(deployed) == {"predictions": [3.0]}


def test_version_whose_warm_up_fails_is_refused_and_recorded(
    models_dir: Path, deployed: Cloud
) -> None:
    export, base_path = models_dir / "warmup_fails/1", f"{deployed.models}/half"
    code, _, said = _command("push", export, f"{base_path}/1")
    assert code == 1
    assert re.search("Warm-up record 0 .* failed: Matrix size-incompatible", said)

    _copy(export, deployed, 1)
    manifest = Manifest.of(export).to_json()  # without it, it would have to settle
    key = f"models/half/1/{MANIFEST}"
    deployed.s3.put_object(Bucket=deployed.bucket, Key=key, Body=manifest)
    deployed.settle()
    document = deployed.record("half", 1)
    assert document["state"] == "FAILED"
    assert "Warm-up record 0" in document["error"]
    assert deployed.plane.functions[f"{SYSTEM}-half"].aliases["live"].function_version == 1


def test_reconcile_by_hand_builds_on_this_machine(models_dir: Path, deployed: Cloud) -> None:
    base_path = f"{deployed.models}/half"
    assert _command("push", models_dir / "two_versions/1", f"{base_path}/1")[0] == 0
    code, said, _ = _command("reconcile", base_path, f"--stack={SYSTEM}", "--local")
    assert (code, said.splitlines()[-1]) == (0, "Point(function_version=2)")
    assert _answer(deployed) == {"predictions": [3.0]}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{models}/half", "--stack=nowhere"], "asked about stack nowhere"),
        (
            ["s3://elsewhere/half", f"--stack={SYSTEM}"],
            "The models of stack system are in {models}",
        ),
        (["{models}/nobody", f"--stack={SYSTEM}"], "asked about function system-nobody"),
        (["{models}/half"], "Missing option '--stack'"),
    ],
)
def test_what_is_wrong_is_told(deployed: Cloud, arguments: list[str], reason: str) -> None:
    code, _, said = _command("status", *(each.format(models=deployed.models) for each in arguments))
    assert code != 0
    assert "Traceback" not in said
    assert reason.format(models=deployed.models) in said
