"""A folder as a layer: what is in the tar, and what does not matter to its digest."""

import os
import shutil
import tarfile
import zlib
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.errors import Aborted, InvalidArgument, Unavailable
from lambda_serving.image.layer import packed
from lambda_serving.image.reference import Blob

_Tree = dict[str, bytes]

_LONG = "n" * 120
_NAMES = st.text("abé雪 .-", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
_TREES = st.dictionaries(
    st.tuples(st.sampled_from(["", "a/", "b/b/"]), _NAMES).map("".join),
    st.binary(max_size=600),
    max_size=5,
).filter(lambda tree: not {"a", "b"} & tree.keys())


def _write(folder: Path, tree: _Tree) -> Path:
    folder.mkdir()
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _layer(folder: Path, place: str = "/models/m/3") -> tuple[Blob, str, bytes]:
    """A layer's blob and diff_id, and the tar, all digests checked."""
    layer = packed(folder, place)
    compressed = b"".join(layer.content())
    assert b"".join(layer.content()) == compressed
    tar = zlib.decompress(compressed, wbits=31)
    assert Blob.holding(compressed) == layer.blob
    assert layer.diff_id == f"sha256:{sha256(tar).hexdigest()}"
    return layer.blob, layer.diff_id, tar


def _entries(tar: bytes) -> list[tuple[str, int, bytes | None]]:
    """Name, mode and content; no entry has an owner or a time."""
    with tarfile.open(fileobj=BytesIO(tar)) as file:
        entries = []
        for entry in file:
            assert (entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, "", "")
            assert entry.mtime == 0
            opened = file.extractfile(entry)
            entries.append((entry.name, entry.mode, opened.read() if opened else None))
        return entries


def test_holds_the_folders_above_and_sorted_what_is_below(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", {"b": b"2", "a/z": b"x" * 513, "a/k": b"", "c/é雪": b"3"})
    (folder / "b").chmod(0o4711)
    (folder / "empty").mkdir(mode=0o700)
    *_, tar = _layer(folder)
    assert _entries(tar) == [
        ("models", 0o755, None),
        ("models/m", 0o755, None),
        ("models/m/3", 0o755, None),
        ("models/m/3/a", 0o755, None),
        ("models/m/3/a/k", 0o644, b""),
        ("models/m/3/a/z", 0o644, b"x" * 513),
        ("models/m/3/b", 0o644, b"2"),
        ("models/m/3/c", 0o755, None),
        ("models/m/3/c/é雪", 0o644, b"3"),
        ("models/m/3/empty", 0o755, None),
    ]


@pytest.mark.parametrize(("name", "records"), [("n", False), (_LONG, True), ("雪", True)])
def test_extended_headers_only_where_ustar_cannot_hold_a_name(
    tmp_path: Path, name: str, *, records: bool
) -> None:
    *_, tar = _layer(_write(tmp_path / "f", {name: b"1"}))
    assert (b"PaxHeader" in tar) == records
    assert _entries(tar)[-1] == (f"models/m/3/{name}", 0o644, b"1")


def test_names_that_are_not_text_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    *_, tar = _layer(_write(tmp_path / "f", {name: b"1"}))
    assert _entries(tar)[-1] == (f"models/m/3/{name}", 0o644, b"1")


def test_gzip_tells_neither_time_nor_name(tmp_path: Path) -> None:
    layer = packed(_write(tmp_path / "f", {"a": b"1"}), "/m")
    header = b"".join(layer.content())[:10]
    assert header[:8] == b"\x1f\x8b\x08\0\0\0\0\0"


@given(tree=_TREES, time=st.integers(0, 2**33), mode=st.sampled_from([0o400, 0o777, 0o644]))
def test_same_names_and_bytes_give_the_same_layer(
    tmp_path_factory: pytest.TempPathFactory, tree: _Tree, time: int, mode: int
) -> None:
    parent = tmp_path_factory.mktemp("trees")
    one = _write(parent / "one", tree)
    other = _write(parent / "other", dict(reversed(tree.items())))
    for path in other.rglob("*"):
        os.utime(path, (time, time))
        if path.is_file():
            path.chmod(mode)
            if os.geteuid() == 0:
                os.chown(path, 12, 34)
    layer = _layer(one)
    assert _layer(other) == layer
    files = {
        name.removeprefix("models/m/3/"): content
        for name, _, content in _entries(layer[2])
        if content is not None
    }
    assert files == tree
    shutil.rmtree(parent)


@given(tree=_TREES.filter(bool), data=st.data())
def test_another_byte_or_place_gives_another_layer(
    tmp_path_factory: pytest.TempPathFactory, tree: _Tree, data: st.DataObject
) -> None:
    parent = tmp_path_factory.mktemp("trees")
    name = data.draw(st.sampled_from(sorted(tree)))
    changed = {**tree, name: tree[name] + b"\0"}
    before = _layer(_write(parent / "before", tree))
    after = _layer(_write(parent / "after", changed))
    elsewhere = _layer(parent / "before", "/models/m/4")
    assert len({digests[0].digest for digests in (before, after, elsewhere)}) == 3
    assert len({digests[1] for digests in (before, after, elsewhere)}) == 3
    shutil.rmtree(parent)


def test_links_are_refused_by_name(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", {"a/file": b""})
    (folder / "a/link").symlink_to("file")
    with pytest.raises(InvalidArgument) as refused:
        _layer(folder)
    assert str(refused.value) == (
        f"{folder}/a/link is neither a file nor a folder, but a link or a device. Replace it"
        " with a copy of its content"
    )


def test_links_to_folders_and_pipes_are_refused_too(tmp_path: Path) -> None:
    linked, piped = (_write(tmp_path / name, {"a": b""}) for name in ("linked", "piped"))
    (linked / "link").symlink_to(tmp_path)
    os.mkfifo(piped / "pipe")
    for folder, name in ((linked, "link"), (piped, "pipe")):
        with pytest.raises(InvalidArgument, match=f"/{name} is neither a file nor a folder"):
            _layer(folder)


def test_a_second_name_of_a_file_is_a_file(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", {"a": b"1"})
    (folder / "b").hardlink_to(folder / "a")
    *_, tar = _layer(folder, "/m")
    assert _entries(tar)[1:] == [("m/a", 0o644, b"1"), ("m/b", 0o644, b"1")]


def test_names_that_delete_files_in_images_are_refused(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", {"a/.wh..wh..opq": b""})
    with pytest.raises(InvalidArgument, match=r"/a/\.wh\.\.wh\.\.opq would delete files"):
        _layer(folder)


@pytest.mark.parametrize("place", ["", "/", "models/m", "/a/../../etc", "/a\0b"])
def test_place_that_is_no_absolute_path_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(InvalidArgument, match="is not the absolute path of a folder in an image"):
        _layer(tmp_path, place)


@pytest.mark.parametrize("place", ["/models/m/3/", "/models/./m//3"])
def test_place_may_be_written_in_other_ways(tmp_path: Path, place: str) -> None:
    assert _layer(tmp_path, place) == _layer(tmp_path)


def test_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"Could not pack .*/nowhere as a layer: .*No such file"):
        _layer(tmp_path / "nowhere")


def test_file_that_has_other_bytes_than_its_size_tells_is_refused() -> None:
    with pytest.raises(Aborted, match=r"^/proc/sys/fs/inotify/.* changed while it was read"):
        _layer(Path("/proc/sys/fs/inotify"))  # these files have the size 0 and content


@pytest.mark.parametrize("content", [b"", b"1", b"2" * 5, b"3" * 9000])
def test_files_that_change_before_the_upload_are_reported(tmp_path: Path, content: bytes) -> None:
    folder = _write(tmp_path / "f", {"a": b"1" * 5})
    layer = packed(folder, "/m")
    (folder / "a").write_bytes(content)
    with pytest.raises(Aborted, match=f"{folder} changed while it was read"):
        list(layer.content())


def test_file_that_goes_before_the_upload_is_reported(tmp_path: Path) -> None:
    folder = _write(tmp_path / "f", {"a": b"1"})
    layer = packed(folder, "/m")
    shutil.rmtree(folder)
    with pytest.raises(Unavailable, match=r"Could not pack .*/f as a layer: .*No such file"):
        list(layer.content())


def test_layer_takes_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _write(tmp_path / "f", {"a": b"1"})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert b"".join(packed(folder, "/m").content())
