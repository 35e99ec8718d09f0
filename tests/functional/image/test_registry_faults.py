"""Appending over a network that fails, and from registries that answer with other bytes."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from lambda_serving.errors import (
    DataLoss,
    Unavailable,
)
from support.registry_wire import OCI, REQUESTS, Repository, Wire, without_mount


@pytest.mark.parametrize("place", range(REQUESTS))
@pytest.mark.parametrize("received", [False, True], ids=["not received", "answer lost"])
def test_append_survives_one_dropped_connection(
    base: Repository, target: Repository, folder: Path, place: int, *, received: bool
) -> None:
    base.push(OCI)
    wire = Wire()

    def before(request: httpx.Request) -> None:
        without_mount(request)
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


@pytest.mark.parametrize("place", range(REQUESTS))
def test_network_that_is_gone_is_told_and_leaves_no_tag(
    base: Repository, target: Repository, folder: Path, place: int
) -> None:
    base.push(OCI)
    wire = Wire()

    def before(request: httpx.Request) -> None:
        without_mount(request)
        if len(wire.requests) > place:
            raise httpx.ReadError("dropped")

    wire.before = before
    with pytest.raises(Unavailable, match=r"^Could not .*the connection failed \(ReadError: drop"):
        wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert target.manifest("MLP-3").status_code == 404
    assert wire.pauses == [0.5, 1, 2, 4]


@pytest.mark.parametrize(
    ("place", "status"), [(place, (429, 500, 503)[place % 3]) for place in range(REQUESTS)]
)
def test_append_waits_for_a_busy_registry(
    base: Repository, target: Repository, folder: Path, place: int, status: int
) -> None:
    base.push(OCI)
    wire = Wire()

    def before(request: httpx.Request) -> httpx.Response | None:
        without_mount(request)
        busy = place < len(wire.requests) <= place + 2
        return httpx.Response(status, content=b"busy") if busy else None

    wire.before = before
    wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert wire.pauses == [0.5, 1]


def test_registry_that_stays_broken_is_reported(base: Repository, folder: Path, wire: Wire) -> None:
    wire.before = lambda _: httpx.Response(503, content=b'{"errors":\n []}')
    with pytest.raises(Unavailable) as refused:
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert str(refused.value) == (
        f"Could not read the manifest of {base.tag('base')}: the registry is busy or broken. Try"
        ' again later (it answered 503 {"errors": []})'
    )
    assert len(wire.requests) == 5


def test_nobody_at_the_address_is_reported(folder: Path, wire: Wire) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/a:b: the connection failed .*refused"):
        wire.append("127.0.0.1:1/a:b", folder, "127.0.0.1:1/a:c")


def _flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize("change", [_flipped, lambda content: content[:-1], lambda c: c + b"x"])
@pytest.mark.parametrize("which", ["config", "layer"])
def test_other_bytes_than_were_asked_for_are_data_loss(
    base: Repository,
    target: Repository,
    folder: Path,
    which: str,
    change: Callable[[bytes], bytes],
) -> None:
    manifest = base.push(OCI)
    blob = {"config": manifest["config"], "layer": manifest["layers"][1]}[which]

    def after(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.method == "GET" and request.url.path.endswith(blob["digest"]):
            return httpx.Response(200, content=change(answer.read()))
        return answer

    wire = Wire(without_mount, after)
    with pytest.raises(DataLoss) as refused:
        wire.append(base.tag("base"), folder, target.tag("MLP-3"))
    assert str(refused.value) == (
        f"Could not read {blob['digest']} of {base.host}/{base.name}: its digest or size is wrong"
        ". Push it again"
    )
    assert target.manifest("MLP-3").status_code == 404


def test_manifest_that_is_not_the_one_asked_for_is_data_loss(
    base: Repository, folder: Path, wire: Wire
) -> None:
    digest = base.push_manifest(base.push(OCI), OCI["manifest"])
    wire.after = lambda _, answer: httpx.Response(200, content=answer.read() + b" ")
    with pytest.raises(DataLoss, match=f"{digest}: its digest is sha256:"):
        wire.append(f"{base.host}/{base.name}@{digest}", folder, base.tag("MLP-3"))


def test_bytes_that_change_on_the_way_to_the_registry_are_data_loss(
    base: Repository, folder: Path, wire: Wire
) -> None:
    base.push(OCI)

    def before(request: httpx.Request) -> None:
        if request.method == "PUT":
            assert isinstance(request.stream, httpx.SyncByteStream)
            request.stream = httpx.ByteStream(_flipped(b"".join(request.stream)))

    wire.before = before
    with pytest.raises(DataLoss, match="the registry received other bytes than were sent"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    assert base.manifest("MLP-3").status_code == 404
