"""The store of local folders: what all stores promise, and pushes that meet the file system."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from lambda_serving.errors import (
    Aborted,
    AlreadyExists,
    ResourceExhausted,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.push import push
from lambda_serving.servables.servable import Servable
from lambda_serving.store import LocalStore, Store
from lambda_serving.store.local_push_target import LocalVersion
from lambda_serving.store.manifest import MANIFEST, PUSH, Manifest
from lambda_serving.store.push_target import VersionFolder
from support.store_contract import (
    GuardedContract,
    Put,
    changing,
    content_of,
    loaded,
    written,
)


class TestLocalStore(GuardedContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore({"m": f"{tmp_path}/models/m"})

    @pytest.fixture
    def version(self, tmp_path: Path) -> VersionFolder:
        return LocalVersion(tmp_path / "models/m/1")

    @pytest.fixture
    def put(self, tmp_path: Path) -> Put:
        def put(files: dict[str, bytes]) -> None:
            written(tmp_path / "models/m", files)

        return put

    def test_exactly_one_of_two_pushes_at_once_wins(
        self, store: Store, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        other = written(tmp_path / "other", {"a": b"other", "b/d": b"other"})
        together = Barrier(2)

        def load(path: Path) -> Servable:
            together.wait(300)
            return loaded(path)

        with ThreadPoolExecutor(2) as pool:
            both = {path: pool.submit(push, path, version, load) for path in (source, other)}
        [winner] = [path for path, future in both.items() if not future.exception()]
        [loss] = [error for future in both.values() if (error := future.exception())]
        assert isinstance(loss, AlreadyExists)
        fetched = content_of(store.fetch(ServableId("m", 1)))
        del fetched[MANIFEST], fetched[PUSH]
        assert fetched == content_of(winner)

    def test_nothing_unfinished_stays_beside_the_version(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(Aborted):
            push(source, version, changing(source / "b/d", b"other!"))
        assert content_of(tmp_path / "models") == {
            "m/1/a": b"first",
            "m/1/push.json": version.put_manifest(PUSH, Manifest({})).to_json(),
        }

    def test_a_copy_by_hand_that_stopped_is_completed(
        self, version: VersionFolder, put: Put, source: Path
    ) -> None:
        put({"1/a": b"first"})
        assert push(source, version, loaded).copied == ("b/d", "b/ü +%&?#c")

    def test_a_pushed_version_can_be_pushed_on(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        push(source, version, loaded)
        further = LocalVersion(tmp_path / "further/1")
        assert push(Path(str(version)), further, loaded).manifest == Manifest.of(source)

    def test_a_disk_without_space_is_reported(self, version: VersionFolder, source: Path) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(ResourceExhausted) as refused:
            version.put(source, Manifest.of(source).files, full)
        assert str(refused.value) == (
            f"Could not write {version}: No space left on device. Free some space and try again"
        )

    def test_a_file_where_the_folder_should_be_is_reported(
        self, version: VersionFolder, source: Path, tmp_path: Path
    ) -> None:
        written(tmp_path / "models/m", {"1": b""})
        with pytest.raises(Unavailable, match=r"Could not read .*/models/m/1: Not a directory"):
            push(source, version, loaded)
