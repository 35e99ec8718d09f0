"""A push becomes the live version, by events alone: registry, images, handlers real.

S3, its events and queue are moto's, Lambda's control plane is `aws_plane`.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lambda_serving.compile.isolated import compile_apart
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.deciding.model_state import Record
from lambda_serving.servables.litert.compiled_folder import mark
from lambda_serving.store.manifest import MANIFEST, Manifest
from support import cloud, emulator, front, registry
from support.aws_plane import Plane
from support.cloud import SYSTEM, Cloud
from support.grpc_web import BINARY, frame, outputs
from support.rpc_client import path_of, predict_request
from support.server_process import COMMAND


@pytest.fixture
def base() -> Iterator[str]:
    """An image in a registry that holds next to nothing."""
    with registry.running() as host:
        yield registry.put_base(f"{host}/models")


@pytest.fixture
def deployed(moto: str, base: str, tmp_path: Path) -> Iterator[Cloud]:
    """The model `half`, whose versions run the handler on their image's model, emulated."""
    with (
        emulator.images(tmp_path) as run,
        cloud.running(Plane(run=run), moto, access="OPEN") as deployed,
    ):
        deployed.deploy_base(base)
        deployed.deploy_build()
        deployed.deploy_model("half", f"{base.partition('@')[0]}@sha256:template")
        yield deployed


def _command(*arguments: str | Path) -> tuple[int, str, str]:
    ended = subprocess.run(
        [COMMAND, *arguments],
        env={**os.environ, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return ended.returncode, ended.stdout, ended.stderr


def _answer(deployed: Cloud) -> Any:
    return deployed.plane.functions[f"{SYSTEM}-half"].invoke({"instances": [2.0]})


def _copy(export: Path, deployed: Cloud, version: int) -> None:
    """Copies an export as `aws s3 sync` does."""
    for path in filter(Path.is_file, export.rglob("*")):
        key = f"models/half/{version}/{path.relative_to(export)}"
        deployed.s3.put_object(Bucket=deployed.bucket, Key=key, Body=path.read_bytes())


def test_pushed_versions_go_live_one_after_the_other_and_back(
    models_dir: Path, deployed: Cloud
) -> None:
    base_path, stack = f"{deployed.models}/half", f"--stack={SYSTEM}"
    for version, answer in ((1, 3.0), (2, 4.0)):
        source = models_dir / "two_versions" / str(version)
        flags = ["--no-check"] if version == 1 else []  # the template's image does not answer
        assert _command("push", source, f"{base_path}/{version}", *flags)[0] == 0
        deployed.settle()
        assert _answer(deployed) == {"predictions": [answer]}
    repository = deployed.plane.functions[f"{SYSTEM}_base"].latest.image.partition("@")[0]
    assert all(
        re.fullmatch(r"base|half-[12]-[0-9a-f]{16}", tag) for tag in registry.tags(repository)
    )
    code, said, _ = _command("status", base_path, stack)
    *table, last = said.splitlines()
    assert (code, last) == (0, "Nothing to do")
    cells = [[cell.strip() for cell in line.split("│")[1:6]] for line in table if "│" in line]
    assert cells == [
        ["2", "AVAILABLE", "", "live", "3"],
        ["1", "AVAILABLE", "", "", "2"],
    ]

    assert _command("rollback", base_path)[0] == 0
    said = _command("reconcile", base_path, stack, "--dry-run")[1]
    assert said == "Make function version 2 live\n"
    deployed.settle()
    assert _answer(deployed) == {"predictions": [3.0]}


def test_rollback_waits_neither_for_a_build_nor_for_the_queue(deployed: Cloud) -> None:
    """Versions 1 and 2 answered, 3 is being built, and the model's messages lie in the queue."""
    base_path = f"{deployed.models}/half"
    deployed.plane.functions[f"{SYSTEM}_build"].run = lambda *_: None  # it takes very long
    for version in (1, 2):
        _release(deployed, version)
    key = "models/half/3/manifest.json"
    deployed.s3.put_object(Bucket=deployed.bucket, Key=key, Body=b"{}")
    deployed.settle()
    deployed.repair("half")
    [taken] = deployed.sqs.receive_message(QueueUrl=deployed.queue_url)["Messages"]
    assert deployed.live("half") == 2
    code, said, _ = _command("rollback", base_path, f"--stack={SYSTEM}")
    assert (code, "Back to version 1." in said) == (0, True)
    assert deployed.live("half") == 1
    assert "BUILDING" in json.dumps(deployed.record("half", 3))
    deployed.sqs.delete_message(QueueUrl=deployed.queue_url, ReceiptHandle=taken["ReceiptHandle"])
    code, _, said = _command("rollback", base_path, f"--stack={SYSTEM}")
    assert (code, "has no version before 1" in said) == (1, True)


def _release(deployed: Cloud, version: int) -> None:
    """Releases a version that has an image and answers any request."""
    function = deployed.plane.functions[f"{SYSTEM}-half"]
    function.run = lambda *_: {"statusCode": 200}
    key = f"models/half/{version}/manifest.json"
    deployed.s3.put_object(Bucket=deployed.bucket, Key=key, Body=str(version).encode())
    releases = BucketReleases(f"{deployed.models}/half", deployed.s3)
    base = deployed.plane.functions[f"{SYSTEM}_base"].latest.image.partition("@")[2]
    content = releases.versions().complete[version]
    releases.record(version, Record(content, base, image=f"sha256:{version:064}"))
    deployed.settle(lambda: deployed.live("half") == version)


def test_grpc_web_calls_find_the_function_of_their_address(
    models_dir: Path, deployed: Cloud
) -> None:
    base_path = f"{deployed.models}/half"
    assert _command("set-policy", base_path, "latest", "2")[0] == 0
    for version in (1, 2):
        source = models_dir / "two_versions" / str(version)
        assert _command("push", "--no-check", source, f"{base_path}/{version}")[0] == 0
    deployed.settle()
    body = frame(predict_request("half", {"x": [2]}).SerializeToString())
    with front.running(deployed) as port:
        for place, answer in (("half", 4.0), ("half/versions/1", 3.0)):
            url = f"http://127.0.0.1:{port}/v1/models/{place}/grpc-web{path_of('Predict')}"
            found = httpx.post(url, content=body, headers={"content-type": BINARY}, timeout=300)
            assert (found.status_code, found.headers["content-type"]) == (200, BINARY)
            assert outputs(found.content) == {"y": [answer]}


def test_same_bytes_pushed_twice_change_nothing(models_dir: Path, deployed: Cloud) -> None:
    source, version = models_dir / "two_versions/1", f"{deployed.models}/half/1"
    assert _command("push", "--no-check", source, version)[0] == 0
    deployed.settle()
    before = deployed.record("half", 1)
    calls = len(deployed.plane.calls)
    assert "Nothing to do" in _command("push", "--no-check", source, version)[1]
    deployed.s3.delete_object(Bucket=deployed.bucket, Key="models/_releases/half/1.json")
    deployed.settle()  # so it is built again, to the same image
    assert deployed.record("half", 1)["image"] == before["image"]
    assert not {"UpdateFunctionCode", "PublishVersion"} & {*deployed.plane.calls[calls:]}


def test_lost_event_is_made_good_once_an_hour(models_dir: Path, deployed: Cloud) -> None:
    assert (
        _command("push", "--no-check", models_dir / "two_versions/1", f"{deployed.models}/half/1")[
            0
        ]
        == 0
    )
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
    code, _, said = _command("push", "--no-check", export, f"{base_path}/1")
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


def _for_tensorflow(models_dir: Path, _: Path, folder: Path) -> None:
    compile_apart(models_dir / "two_versions/1", folder)


def _for_litert(_: Path, tflite_dir: Path, folder: Path) -> None:
    shutil.copytree(tflite_dir / "two_versions/1", folder)
    mark(folder, "2.3.0")


@pytest.mark.parametrize("write", [_for_tensorflow, _for_litert])
def test_version_that_is_compiled_already_goes_live_as_it_is(
    models_dir: Path,
    tflite_dir: Path,
    deployed: Cloud,
    tmp_path: Path,
    write: Callable[[Path, Path, Path], None],
) -> None:
    source = tmp_path / "compiled"
    write(models_dir, tflite_dir, source)
    assert _command("push", "--no-check", source, f"{deployed.models}/half/1")[0] == 0
    deployed.settle()
    assert not deployed.record("half", 1).get("error")
    assert _answer(deployed) == {"predictions": [3.0]}


def test_model_changes_its_runtime_forwards_and_back(
    models_dir: Path, tflite_dir: Path, deployed: Cloud, tmp_path: Path
) -> None:
    """Version 1 is LiteRT's and version 2 TensorFlow's, on images that differ."""
    base_path, stack = f"{deployed.models}/half", f"--stack={SYSTEM}"
    full = deployed.plane.functions[f"{SYSTEM}_base"].latest.image
    lite = registry.put_base(f"{full.partition('/')[0]}/lite", "BASE=lite")
    deployed.deploy_base(full, lite)
    for version, write in ((1, _for_litert), (2, _for_tensorflow)):
        source = tmp_path / str(version)
        write(models_dir, tflite_dir, source)
        changing = ("--no-check", "--allow-signature-change")  # the files of LiteRT say less
        assert _command("push", *changing, source, f"{base_path}/{version}")[0] == 0
        deployed.settle()
        assert (deployed.live("half"), _answer(deployed)) == (version, {"predictions": [3.0]})
    found = [_base_of(deployed, version, tmp_path / f"image-{version}") for version in (1, 2)]
    assert found == ["lite", None]
    assert _command("rollback", base_path, stack)[0] == 0
    deployed.settle()
    assert (deployed.live("half"), _answer(deployed)) == (1, {"predictions": [3.0]})
    assert _command("set-policy", base_path, "latest")[0] == 0
    deployed.settle()
    assert (deployed.live("half"), _answer(deployed)) == (2, {"predictions": [3.0]})


def _base_of(deployed: Cloud, version: int, folder: Path) -> str | None:
    """What the base image of a version calls itself."""
    repository = deployed.plane.functions[f"{SYSTEM}_base"].latest.image.partition("@")[0]
    image = f"{repository}@{deployed.record('half', version)['image']}"
    return registry.unpack(image, folder).get("BASE")


def test_reconcile_by_hand_builds_on_this_machine(models_dir: Path, deployed: Cloud) -> None:
    base_path = f"{deployed.models}/half"
    assert _command("push", "--no-check", models_dir / "two_versions/1", f"{base_path}/1")[0] == 0
    code, said, _ = _command("reconcile", base_path, f"--stack={SYSTEM}", "--local")
    assert (code, said.splitlines()[-1]) == (0, "Make function version 2 live")
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
def test_mistake_is_reported(deployed: Cloud, arguments: list[str], reason: str) -> None:
    code, _, said = _command("status", *(each.format(models=deployed.models) for each in arguments))
    assert code != 0
    assert "Traceback" not in said
    assert reason.format(models=deployed.models) in said
