"""Images with one more layer, in a real registry: what they hold, and what was sent for them."""

import json
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from lambda_serving.errors import (
    AlreadyExists,
)
from lambda_serving.image import Appended
from support.registry import refuse_known_tags, running
from support.registry_wire import (
    CONFIG,
    DOCKER,
    LABELS,
    OCI,
    PLACE,
    REQUESTS,
    Repository,
    Wire,
    without_mount,
)


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
def test_image_is_the_base_with_one_more_layer_and_settings(
    base: Repository, target: Repository, folder: Path, wire: Wire, types: Mapping[str, str]
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
        **CONFIG,
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
                "created_by": f"lambda-serving append {PLACE}",
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
    base: Repository, folder: Path, wire: Wire, config: Mapping[str, Any]
) -> None:
    base.push(OCI, config)
    wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    made = json.loads(base.blob(base.manifest("MLP-3").json()["config"]))
    assert made["config"] == {"Env": ["MODEL_VERSION=3", "MODEL_NAME=MLP"], "Labels": LABELS}
    assert len(made["history"]) == 1


def test_base_may_be_named_by_its_digest(base: Repository, folder: Path, wire: Wire) -> None:
    digest = base.push_manifest(base.push(OCI), OCI["manifest"])
    by_digest = wire.append(f"{base.host}/{base.name}@{digest}", folder, base.tag("one"))
    assert wire.append(base.tag("base"), folder, base.tag("two")).digest == by_digest.digest


def test_second_append_sends_nothing(
    base: Repository, target: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)
    first = wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    again = Wire()
    assert again.append(base.tag("base"), folder, target.tag("MLP-3")) == Appended(
        first.digest, sent=0, new=False
    )
    assert {request.method for request in again.requests} == {"GET"}


def test_same_files_elsewhere_send_the_manifest_alone(
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)
    first = wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    again = Wire()
    second = again.append(base.tag("base"), folder, base.tag("other"))
    size = len(base.manifest("other").content)
    assert (second, again.sent) == (Appended(first.digest, size, new=True), size)


def test_another_byte_replaces_the_tag(base: Repository, folder: Path, wire: Wire) -> None:
    base.push(OCI)
    first = wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    (folder / "graph.pb").write_bytes(b"grapH")
    second = wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert (second.new, second.digest != first.digest) == (True, True)
    assert base.manifest("MLP-3").headers["Docker-Content-Digest"] == second.digest


def test_tag_with_the_digest_is_of_one_image_and_immutable_repositories_take_it(
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)
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
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)
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
    base: Repository, target: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)
    appended = wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    manifest = target.manifest("MLP-3")
    document = manifest.json()
    sizes = [document["layers"][-1]["size"], document["config"]["size"], len(manifest.content)]
    puts = [request for request in wire.requests if request.method == "PUT"]
    assert [int(request.headers["Content-Length"]) for request in puts] == sizes
    assert appended.sent == wire.sent == sum(sizes)


def test_layers_are_copied_where_the_registry_does_not_mount(
    base: Repository, target: Repository, folder: Path
) -> None:
    manifest, wire = base.push(OCI), Wire(without_mount)
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
    assert len(wire.requests) == REQUESTS


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
    base: Repository, tmp_path: Path
) -> None:
    base.push(OCI)
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
