"""Folders of exports: written whole or not at all, copied with or without their graph."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lambda_serving.errors import translate_os_errors
from lambda_serving.store import temporary
from lambda_serving.store.manifest import MANIFEST, PUSH

__all__ = [
    "copy_all",
    "copy_beside_graph",
    "copy_extra",
    "keep_only",
    "lend",
    "size_of",
    "written_whole",
]

_NOT_BESIDE = frozenset(("saved_model.pb", "saved_model.pbtxt", "variables", MANIFEST, PUSH))

_EXTRA = "assets.extra"


@contextmanager
def written_whole(destination: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `destination` at the end, unless something fails.

    Raises what `translate_os_errors` raises.
    """
    with translate_os_errors(f"write {destination}"):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder(f".{destination.name}-", destination.parent) as folder:
            made = folder / "model"
            made.mkdir()
            yield made
            made.rename(destination)


def copy_beside_graph(export_dir: Path, destination: Path) -> None:
    """Copies an export without its graph and variables: assets, warm-up, metadata.

    Files already in `destination` stay. Manifests of a push are not copied: they list the export.
    """
    for each in export_dir.iterdir():
        if each.name not in _NOT_BESIDE and not (destination / each.name).exists():
            _copy(each, destination)


def copy_extra(export_dir: Path, destination: Path) -> None:
    """Copies the folder `assets.extra` of an export, if it has one: warm-up and golden pairs."""
    if (export_dir / _EXTRA).is_dir():
        _copy(export_dir / _EXTRA, destination)


def copy_all(export_dir: Path, destination: Path) -> None:
    """Makes `destination` a copy of the export, and removes everything else in it."""
    shutil.rmtree(destination)
    destination.mkdir()
    for each in export_dir.iterdir():
        _copy(each, destination)


def lend(owner: Path, borrower: Path) -> None:
    """Creates the folder `borrower` with hard links to the files of `owner`, if that exists."""
    if owner.exists():
        borrower.mkdir()
        for each in owner.iterdir():
            (borrower / each.name).hardlink_to(each)


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Removes all other files, and the folder itself if it is then empty."""
    if folder.exists():
        for each in folder.iterdir():
            if each.name not in names:
                each.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _copy(path: Path, destination: Path) -> None:
    """Copies content only: times and owners do not belong to the model."""
    if path.is_dir():
        shutil.copytree(path, destination / path.name, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(path, destination / path.name)
