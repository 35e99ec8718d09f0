"""Folders written whole, and what is copied of exports."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lambda_serving.compile.folders import (
    copy_all,
    copy_beside_graph,
    keep_only,
    lend,
    size_of,
    written_whole,
)
from lambda_serving.errors import DiskFull, PermissionDenied, ServingError, Unavailable


def _export(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _write(destination: Path, name: str, then: Callable[[], object]) -> None:
    """Writes one file of a folder that is to be whole, and then has something happen."""
    with written_whole(destination) as made:
        _export(made, name)
        then()


def _raise(error: Exception) -> None:
    raise error


def test_folder_has_its_name_only_when_all_is_written(tmp_path: Path) -> None:
    destination = tmp_path / "new" / "1"
    with written_whole(destination) as made:
        _export(made, "a")
        assert not destination.exists()
    assert _names(tmp_path) == ["new/1/a"]


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            DiskFull,
            "Could not write {destination}: No space left on device. Free some space and try again",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            PermissionDenied,
            "Could not write {destination}: Permission denied. Allow it to this user",
        ),
        (ServingError("as it was"), ServingError, "as it was"),
    ],
)
def test_failure_leaves_nothing_and_is_reported(
    tmp_path: Path, raised: Exception, error: type[ServingError], message: str
) -> None:
    destination = tmp_path / "1"
    with pytest.raises(error) as caught:
        _write(destination, "a", lambda: _raise(raised))
    assert str(caught.value) == message.format(destination=destination)
    assert list(tmp_path.iterdir()) == []


def test_destination_that_came_meanwhile_is_left_alone(tmp_path: Path) -> None:
    destination = tmp_path / "1"
    with pytest.raises(Unavailable, match="Could not write"):
        _write(destination, "ours", lambda: _export(destination, "theirs"))
    assert _names(tmp_path) == ["1/theirs"]


def test_files_beside_the_graph_are_copied_unless_they_exist(tmp_path: Path) -> None:
    export = _export(
        tmp_path / "export",
        "saved_model.pb",
        "variables/variables.index",
        "assets/words.txt",
        "assets.extra/warm_up",
        "notes.txt",
        "manifest.json",
        "push.json",
    )
    made = _export(tmp_path / "made", "assets/ours.txt")
    copy_beside_graph(export, made)
    assert _names(made) == ["assets.extra/warm_up", "assets/ours.txt", "notes.txt"]


def test_copy_of_all_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    export = _export(tmp_path / "export", "saved_model.pb", "variables/variables.index")
    made = _export(tmp_path / "made", "weights/half")
    copy_all(export, made)
    assert _names(made) == _names(export)
    assert size_of(made) == len("saved_model.pb") + len("variables/variables.index")


def test_lent_files_take_no_room_and_outlive_their_owner(tmp_path: Path) -> None:
    owner, borrower = _export(tmp_path / "owner", "a", "b"), tmp_path / "borrower"
    lend(owner, borrower)
    assert [path.stat().st_nlink for path in borrower.iterdir()] == [2, 2]
    shutil.rmtree(owner)
    assert (_names(borrower), (borrower / "a").read_text()) == (["a", "b"], "a")


def test_owner_without_files_lends_nothing(tmp_path: Path) -> None:
    lend(tmp_path / "nobody", tmp_path / "borrower")
    assert _names(tmp_path) == []


@pytest.mark.parametrize(("names", "left"), [({"a", "c"}, ["kept/a"]), (set(), [])])
def test_only_files_of_these_names_stay(tmp_path: Path, names: set[str], left: list[str]) -> None:
    keep_only(_export(tmp_path / "kept", "a", "b"), names)
    assert _names(tmp_path) == left
    assert (tmp_path / "kept").exists() == bool(left)
