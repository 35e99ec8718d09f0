import json
import os
import socket
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.errors import (
    Aborted,
    DataLoss,
    InvalidArgument,
    Unavailable,
    Unimplemented,
)
from lambda_serving.store.manifest import File, Manifest, Reading, differing, files_in

_DIGEST = sha256(b"x").hexdigest()
_X = File(1, _DIGEST)
_NAMES = st.text(
    st.characters(min_codepoint=32, exclude_characters="/\x7f", codec="utf-8"), max_size=60
)
_PATHS = st.lists(_NAMES.filter(lambda name: name not in {"", ".", ".."}), min_size=1, max_size=3)
_FILES = st.dictionaries(
    _PATHS.map("/".join).filter(lambda name: name not in {"manifest.json", "push.json"}),
    st.builds(File, st.integers(0, 2**63), st.from_regex("[0-9a-f]{64}", fullmatch=True)),
).filter(lambda files: not any(other.startswith(f"{name}/") for name in files for other in files))


def _listing(*names: str) -> dict[str, object]:
    entry = {"size": 1, "sha256": _DIGEST}
    return {"format": 1, "files": dict.fromkeys(names, entry)}


def test_lists_every_file_but_not_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    for name in (".DS_Store", "ü", "b/manifest.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert Manifest.of(tmp_path) == Manifest({".DS_Store": _X, "b/manifest.json": _X, "ü": _X})


def test_json_is_the_same_in_any_order_and_told_at_the_top_of_the_module() -> None:
    one, other = Manifest({"b": _X, "a/ü": _X}), Manifest({"a/ü": _X, "b": _X})
    assert json.loads(one.to_json()) == {
        "format": 1,
        "files": {name: {"size": 1, "sha256": _DIGEST} for name in ("a/ü", "b")},
    }
    assert one.to_json() == other.to_json()
    assert one.digest == sha256(other.to_json()).hexdigest()
    assert one.size == 2


@given(_FILES)
def test_json_is_read_back_as_it_was(files: dict[str, File]) -> None:
    assert Manifest.of_json(Manifest(files).to_json(), "m") == Manifest(files)


def test_differing_names_what_only_one_has_and_what_has_other_bytes() -> None:
    others = {"a": _X, "b": File(1, "0" * 64), "c": _X}
    assert differing({"a": _X, "b": _X, "d": _X}, others) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "Expecting value"),
        (b"\xff", "can't decode"),
        ([], "list indices"),
        ({}, "'format'"),
        ({"format": 1, "files": []}, "'items'"),
        ({"format": 1, "files": {"a": 1}}, "mapping"),
        ({"format": 1, "files": {"a": {"size": 1}}}, "sha256"),
        ({"format": 1, "files": {"a": {"size": -1, "sha256": _DIGEST}}}, "are -1 and"),
        ({"format": 1, "files": {"a": {"size": "1", "sha256": _DIGEST}}}, "size and sha256 of"),
        ({"format": 1, "files": {"a": {"size": 1, "sha256": "abc"}}}, "are 1 and abc"),
        ({"format": 1, "files": {"../a": {"size": 1, "sha256": _DIGEST}}}, "leaves its folder"),
        ({"format": 1, "files": {"/a": {"size": 1, "sha256": _DIGEST}}}, "leaves its folder"),
        ({"format": 1, "files": {"a//b": {"size": 1, "sha256": _DIGEST}}}, "leaves its folder"),
        ({"format": 1, "files": {"a\0": {"size": 1, "sha256": _DIGEST}}}, "control character"),
        ({"format": 1, "files": {"push.json": {"size": 1, "sha256": _DIGEST}}}, "lists push.json"),
        (_listing("a", "a/b"), "'a' is the name of a file and of a folder"),
        (_listing("a/b/c/d", "a", "x"), "'a' is the name of a file and of a folder"),
        (_listing("a/" + "x" * 256), "has a part longer than the 255 bytes"),
        (_listing("ü" * 128 + "/b"), "has a part longer than the 255 bytes"),
        (b"[" * 200_000, "maximum recursion depth"),
        (b'{"format": 1, "files": ' + b'{"a":' * 200_000, "maximum recursion depth"),
    ],
)
def test_invalid_document_is_data_loss(document: object, reason: str) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(
        DataLoss, match="^s3://b/m/1 is not the manifest of a pushed version: "
    ) as e:
        Manifest.of_json(data, "s3://b/m/1")
    assert reason in str(e.value)


def test_later_format_asks_for_a_newer_version() -> None:
    with pytest.raises(Unimplemented, match="m has the format 2, and only 1 .* newer lambda-serv"):
        Manifest.of_json(b'{"format": 2, "files": null}', "m")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"a\nb", r"'a\\nb' has a control character. Rename the file"),
        (b"a\xff", r"'a\\udcff' is not UTF-8. Rename the file"),
        (b"/".join([b"x" * 200] * 6), "is longer than the 1024 bytes of a key in S3"),
    ],
)
def test_names_that_a_bucket_cannot_hold_are_refused(
    tmp_path: Path, name: bytes, reason: str
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(InvalidArgument, match=reason):
        files_in(tmp_path)


def test_links_and_special_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidArgument, match="/link is a link, which not every store can hold"):
        files_in(tmp_path)
    (tmp_path / "link").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(InvalidArgument, match="/socket is not a regular file, which not every"):
            files_in(tmp_path)


def test_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Could not read .*/nowhere: No such file or directory"):
        files_in(tmp_path / "nowhere")


def test_earlier_push_must_be_of_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "push.json").write_bytes(Manifest({"a": _X}).to_json())
    (tmp_path / "manifest.json").write_bytes(Manifest({"a": _X}).to_json())
    assert Manifest.of(tmp_path) == Manifest({"a": _X})
    (tmp_path / "b").touch()
    with pytest.raises(InvalidArgument) as refused:
        Manifest.of(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/manifest.json is of an earlier push and lists other files than {tmp_path}"
        " holds: b. Remove it if the change is meant"
    )


def test_reading_gives_what_is_listed_even_if_more_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    reading = Reading(path, File.of(path))
    path.write_bytes(b"123456")
    assert [reading.read(2), reading.read(2), reading.read(), reading.read(2)] == [
        *(b"12", b"34", b"5", b""),
    ]


@pytest.mark.parametrize("content", [b"12", b"12346", b"", None])
def test_reading_of_a_changed_file_is_aborted(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    reading = Reading(path, File.of(path))
    assert reading.read(2) == b"12"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(Aborted, match=f"{path} "):
        reading.read()
