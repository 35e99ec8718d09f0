"""SavedModels on this machine's disk."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lambda_serving.errors import NotFound, Unavailable, translate_os_errors
from lambda_serving.model_spec import ServableId
from lambda_serving.store.completeness import check_complete, check_content
from lambda_serving.store.manifest import MANIFEST, File, Manifest
from lambda_serving.store.names import SHOWN, by_version
from lambda_serving.store.other_formats import advice

__all__ = ["LocalStore", "read_manifest"]


class LocalStore:
    """Base paths on this machine's disk, by model."""

    def __init__(self, base_paths: Mapping[str, str]) -> None:
        self._base_paths = {name: Path(path) for name, path in base_paths.items()}

    def versions(self, name: str) -> list[int]:
        return sorted(by_version(self._names(name)))

    def contents(self, name: str) -> list[str]:
        return sorted(self._names(name))[:SHOWN]

    def fetch(self, servable: ServableId) -> Path:
        """As `Store.fetch`; of a version without a manifest only the names are checked."""
        base_path = self._base_paths[servable.name]
        try:
            folder = base_path / by_version(self._names(servable.name))[servable.version]
        except KeyError:
            raise NotFound(
                f"Version {servable.version} of model {servable.name} is not under {base_path}"
            ) from None
        with translate_os_errors(f"read {folder}"):
            _check(folder)
        return folder

    def fingerprint(self, servable: ServableId) -> str:
        """As `Store.fingerprint`, from names, sizes and modification times."""
        folder = by_version(self._names(servable.name)).get(servable.version)
        if folder is None:
            return ""
        version = self._base_paths[servable.name] / folder
        with translate_os_errors(f"read {version}"):
            digest = hashlib.sha256(str(version.resolve()).encode())
            for path in sorted(version.rglob("*")):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    stat = path.stat()
                    known = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
                    digest.update(repr(known).encode())
        return digest.hexdigest()

    def release(self, servable: ServableId) -> None:
        """Does nothing: nothing was copied."""

    def _names(self, name: str) -> list[str]:
        base_path = self._base_paths[name]
        try:
            return [child.name for child in base_path.iterdir()]
        except OSError as error:
            told = advice(str(base_path)) if isinstance(error, NotADirectoryError) else ""
            raise Unavailable(
                f"Could not read the base path {base_path} of model {name}: {error.strerror}"
                f"{told and f'. {told}'}"
            ) from error


def _check(folder: Path) -> None:
    manifest = read_manifest(folder, MANIFEST)
    if manifest:
        names = {name for name in manifest.files if (folder / name).is_file()}
        check_complete(folder, names, manifest)
        for name, listed in manifest.files.items():
            check_content(folder, name, listed, File.of(folder / name))
    elif folder.is_dir():
        files = (path for path in folder.rglob("*") if path.is_file())
        check_complete(folder, {path.relative_to(folder).as_posix() for path in files}, None)


def read_manifest(folder: Path, name: str) -> Manifest | None:
    """The manifest `name` of a version, None if there is none."""
    path = folder / name
    return Manifest.of_json(path.read_bytes(), path) if path.is_file() else None
