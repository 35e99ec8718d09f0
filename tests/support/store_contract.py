"""Tests that every store and every push to it must pass; each store has its own fixtures."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Barrier

import pytest

from lambda_serving.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    NotFound,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.push import Pushed, push
from lambda_serving.servables.servable import Servable
from lambda_serving.store import Store
from lambda_serving.store.manifest import MANIFEST, File, Found, Manifest
from lambda_serving.store.push_target import VersionFolder

__all__ = [
    "EXPORT",
    "GuardedContract",
    "Put",
    "StoreContract",
    "changing",
    "content_of",
    "loaded",
    "not_called",
    "written",
]

_INDEX = "variables/variables.index"
_FILES = ("saved_model.pb", _INDEX, "variables/variables.data-00000-of-00001")
EXPORT = {f"1/{file}": file.encode() for file in _FILES}

Put = Callable[[dict[str, bytes]], None]


class StoreContract:
    """The promises of any store, for model `m`; `put` writes files below its base path."""

    def test_no_versions_where_there_are_none(self, store: Store, put: Put) -> None:
        put({"saved_model.pb": b"", "v1/saved_model.pb": b""})
        assert store.versions("m") == []

    def test_versions_are_sorted_as_numbers(self, store: Store, put: Put) -> None:
        put({f"{name}/saved_model.pb": b"" for name in ("10", "9", "002", "v3", "1.0", "-6")})
        assert store.versions("m") == [2, 9, 10]

    def test_contents_names_some_of_what_is_there(self, store: Store, put: Put) -> None:
        put({"b/1/x": b"", "a": b"", **{f"c{number}": b"" for number in range(10)}})
        assert store.contents("m") == ["a", "b", *(f"c{number}" for number in range(8))]

    def test_fetch_brings_all_files_with_their_content(self, store: Store, put: Put) -> None:
        put({**EXPORT, "1/assets.extra/a/b": b"x" * 9_000_000, "2/saved_model.pb": b"other"})
        assert content_of(store.fetch(ServableId("m", 1))) == {
            **{file: file.encode() for file in _FILES},
            "assets.extra/a/b": b"x" * 9_000_000,
        }

    def test_fetch_takes_the_name_that_means_the_version(self, store: Store, put: Put) -> None:
        put({"001/saved_model.pb": b"first", "01/saved_model.pb": b"last"})
        assert content_of(store.fetch(ServableId("m", 1))) == {"saved_model.pb": b"last"}

    def test_version_that_is_not_there_is_not_found(self, store: Store, put: Put) -> None:
        put({"41/saved_model.pb": b""})
        with pytest.raises(NotFound, match=r"^Version 4 of model m is not under .*/models/m$"):
            store.fetch(ServableId("m", 4))

    @pytest.mark.parametrize(
        ("files", "missing"),
        [
            ({"1/assets/words": b""}, "saved_model.pb"),
            ({f"1/{file}": b"" for file in _FILES[1:]}, "saved_model.pb"),
            ({f"1/{file}": b"" for file in _FILES[:2]}, "variables/variables.data-00000-of-00001"),
            (
                {f"1/{_FILES[0]}": b"", f"1/{_FILES[2]}": b""},
                "variables/variables.index",
            ),
            (
                {
                    "1/saved_model.pbtxt": b"",
                    "1/variables/variables.index": b"",
                    "1/variables/variables.data-00001-of-00003": b"",
                },
                "variables/variables.data-00000-of-00003, variables/variables.data-00002-of-00003",
            ),
        ],
    )
    def test_partial_copy_is_refused_with_what_is_missing(
        self, store: Store, put: Put, files: dict[str, bytes], missing: str
    ) -> None:
        put(files)
        with pytest.raises(Unavailable, match=r"/models/m/1 is not complete: ") as refused:
            store.fetch(ServableId("m", 1))
        assert f"not complete: {missing} is missing" in str(refused.value)

    def test_shards_of_an_older_checkpoint_do_not_matter(self, store: Store, put: Put) -> None:
        put({**EXPORT, "1/variables/variables.data-00000-of-00002": b""})
        assert len(content_of(store.fetch(ServableId("m", 1)))) == 4

    def test_released_version_is_fetched_anew(self, store: Store, put: Put) -> None:
        put(EXPORT)
        store.fetch(ServableId("m", 1))
        store.release(ServableId("m", 1))
        put({"1/saved_model.pb": b"mended"})
        assert content_of(store.fetch(ServableId("m", 1)))["saved_model.pb"] == b"mended"

    def test_fingerprint_changes_with_the_files(self, store: Store, put: Put) -> None:
        put(EXPORT)
        one = ServableId("m", 1)
        before = store.fingerprint(one)
        assert before == store.fingerprint(one)
        put({"1/variables/more": b""})
        longer = store.fingerprint(one)
        put({"1/saved_model.pb": b"of another length"})
        assert len({"", before, longer, store.fingerprint(one)}) == 4
        assert store.fingerprint(ServableId("m", 2)) == ""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A folder to push; it needs no SavedModel, because nothing is loaded."""
        return written(tmp_path / "source", {"a": b"first", "b/ü +%&?#c": b"", "b/d": b"second"})

    def test_pushed_version_is_fetched_as_it_was(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        (source / "large").write_bytes(bytes(range(256)) * 50_000)
        pushed = push(source, version, loaded)
        assert pushed == Pushed(Manifest.of(source), copied=("a", "b/d", "b/ü +%&?#c", "large"))
        fetched = content_of(store.fetch(ServableId("m", 1)))
        assert {name: fetched[name] for name in pushed.copied} == content_of(source)
        assert store.versions("m") == [1]

    def test_same_files_again_are_neither_loaded_nor_copied(
        self, version: VersionFolder, source: Path
    ) -> None:
        push(source, version, loaded)
        assert push(source, version, not_called) == Pushed(Manifest.of(source), new=False)

    def test_other_files_are_refused_by_name(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        push(source, version, loaded)
        (source / "a").write_bytes(b"other")
        (source / "new").touch()
        with pytest.raises(AlreadyExists) as refused:
            push(source, version, not_called)
        assert str(refused.value) == (
            f"{version} holds other files than this SavedModel: a, new differ. A version never"
            " changes: push under a new version number"
        )
        assert content_of(store.fetch(ServableId("m", 1)))["a"] == b"first"

    def test_files_that_nobody_pushed_are_not_written_over(
        self, store: Store, version: VersionFolder, put: Put, source: Path
    ) -> None:
        put({"1/a": b"theirs", "1/saved_model.pb": b"theirs"})
        with pytest.raises(AlreadyExists) as refused:
            push(source, version, not_called)
        assert str(refused.value) == (
            f"{version} holds files that are not those of this SavedModel: a, saved_model.pb."
            " Remove them, or push under a new version number"
        )
        assert content_of(store.fetch(ServableId("m", 1))) == {
            "a": b"theirs",
            "saved_model.pb": b"theirs",
        }

    @pytest.mark.parametrize("size", [0, 7, 8 * 2**20, 20_000_000])
    @pytest.mark.parametrize("change", [b"x", b""])
    def test_a_source_that_changes_has_no_manifest(
        self, store: Store, version: VersionFolder, source: Path, size: int, change: bytes
    ) -> None:
        path = source / "b/d"
        path.write_bytes(b"-" * (size + 1))
        with pytest.raises(Aborted, match=r"/source/b/d was changed while it was pushed"):
            push(source, version, changing(path, path.read_bytes()[1:] + change))
        found = version.look()
        assert (found.complete, found.files.get("b/d")) == (False, None)
        with pytest.raises(Unavailable, match=r"not complete: manifest.json is missing\. Wait"):
            store.fetch(ServableId("m", 1))

    def test_broken_off_push_goes_on_where_it_stopped(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        with pytest.raises(Aborted, match="Could not read .*/source/b/d again: No such file"):
            push(source, version, changing(source / "b/d", None))
        (source / "b/d").write_bytes(b"second")
        pushed = push(source, version, loaded)
        assert "a" not in pushed.copied
        assert "b/d" in pushed.copied
        assert content_of(store.fetch(ServableId("m", 1)))["b/d"] == b"second"

    def test_push_leaves_the_files_of_another_push_alone(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        other = written(tmp_path / "other", {"a": b"first"})
        said: list[str] = []

        def meanwhile(stage: str, done: int, total: int) -> None:
            if stage == "copying" and done == total:
                with pytest.raises(AlreadyExists) as refused:
                    push(other, version, not_called)
                said.append(str(refused.value))

        assert push(source, version, loaded, meanwhile).new
        assert said[0] == (
            f"{version} has an unfinished push, perhaps under way, of other files than this"
            " SavedModel: b/d, b/ü +%&?#c differ. A version never changes: push under a new"
            " version number"
        )

    def test_the_manifest_tells_of_changed_and_missing_files(
        self, store: Store, version: VersionFolder, put: Put, source: Path
    ) -> None:
        manifest = Manifest.of(source)
        version.put_manifest(MANIFEST, manifest)
        with pytest.raises(
            Unavailable, match="complete: a, b/d, b/ü .* missing. Push it again, as"
        ):
            store.fetch(ServableId("m", 1))
        version.put(source, manifest.files, lambda _: None)
        put({"1/not listed": b"ignored"})
        store.fetch(ServableId("m", 1))

    def test_files_that_are_not_as_pushed_are_data_loss(
        self, store: Store, version: VersionFolder, put: Put, source: Path
    ) -> None:
        push(source, version, loaded)
        put({"1/b/d": b"SECOND"})
        with pytest.raises(DataLoss) as refused:
            store.fetch(ServableId("m", 1))
        assert str(refused.value) == (
            f"b/d in {version} is not what was pushed: its manifest lists 6 bytes with sha256"
            f" {sha256(b'second').hexdigest()}, but it has 6 with {sha256(b'SECOND').hexdigest()}."
            " Push the SavedModel again, as a new version"
        )

    def test_invalid_manifest_is_data_loss(
        self, store: Store, version: VersionFolder, put: Put
    ) -> None:
        put({"1/manifest.json": b"{}", "1/saved_model.pb": b""})
        for look in (version.look, lambda: store.fetch(ServableId("m", 1))):
            with pytest.raises(DataLoss, match=r"/1/manifest.json is not the manifest of a pushed"):
                look()


class GuardedContract(StoreContract):
    """The promises of stores that can write an object only if there is none."""

    def test_first_manifest_stays(self, version: VersionFolder) -> None:
        first, second = (Manifest({name: File(0, "0" * 64)}) for name in "ab")
        assert [version.put_manifest(MANIFEST, manifest) for manifest in (first, second)] == [
            first,
            first,
        ]
        assert version.look() == Found(first, complete=True)

    def test_later_of_two_pushes_at_once_is_refused_before_it_copies(
        self, store: Store, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        other = written(tmp_path / "other", {"a": b"other"})

        def load(path: Path) -> Servable:
            push(other, version, loaded)
            return loaded(path)

        with pytest.raises(AlreadyExists, match="unfinished push, perhaps under way, of other"):
            push(source, version, load)
        assert content_of(store.fetch(ServableId("m", 1)))["a"] == b"other"

    def test_two_pushes_of_the_same_files_at_once_both_succeed(
        self, store: Store, version: VersionFolder, source: Path
    ) -> None:
        together = Barrier(2)

        def load(path: Path) -> Servable:
            together.wait(300)
            return loaded(path)

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda _: push(source, version, load), range(2)))
        assert [pushed.new for pushed in both] == [True, True]
        assert content_of(store.fetch(ServableId("m", 1)))["a"] == b"first"


def loaded(_: Path) -> Servable:
    return Servable({}, {}, definitions={}, close=lambda: None)


def not_called(path: Path) -> Servable:
    raise AssertionError(path)


def changing(path: Path, content: bytes | None) -> Callable[[Path], Servable]:
    """Writes other content, or removes the file, after it was listed and before it is copied."""

    def load(source: Path) -> Servable:
        path.unlink() if content is None else path.write_bytes(content)
        return loaded(source)

    return load


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
