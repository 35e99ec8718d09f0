"""SavedModels on this machine's disk, and what makes a name a version in any store."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lambda_serving.errors import NotFound, Unavailable, of_disk
from lambda_serving.model_spec import ServableId
from lambda_serving.store import temporary
from lambda_serving.store.completeness import check_complete, check_content
from lambda_serving.store.manifest import MANIFEST, PUSH, File, Found, Manifest, Reading, files_in
from lambda_serving.store.other_formats import advice

__all__ = ["SHOWN", "LocalStore", "LocalVersion", "by_version", "translate_os_errors"]

SHOWN = 10  # names that a message shows of what lies under a base path
_VERSION = re.compile(r"\s*[+-]?[0-9]{1,20}\s*", re.ASCII)
_MAX_VERSION = 2**63 - 1
_CHUNK = 2**20


def by_version(names: Iterable[str]) -> dict[int, str]:
    """The names that are versions; of several names for one version the last one counts.

    A name is a version when all of it is an integer, leading zeros, a sign and blanks around it
    allowed (file_system_storage_path_source.cc, absl::SimpleAtoi). What is in it is not looked
    at.
    """
    return {
        int(name): name
        for name in sorted(names)
        if _VERSION.fullmatch(name) and 0 <= int(name) <= _MAX_VERSION
    }


class LocalStore:
    """Base paths on this machine's disk, by model."""

    def __init__(self, base_paths: Mapping[str, str]) -> None:
        self._base_paths = {name: Path(path) for name, path in base_paths.items()}

    def versions(self, name: str) -> list[int]:
        return sorted(by_version(self._names(name)))

    def contents(self, name: str) -> list[str]:
        return sorted(self._names(name))[:SHOWN]

    def fetch(self, servable: ServableId) -> Path:
        """As `Store.fetch`; of a version that was not pushed only the names of files are known."""
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
        """As `Store.fingerprint`, by names, sizes and times of change."""
        folder = by_version(self._names(servable.name)).get(servable.version)
        if folder is None:
            return ""
        version = self._base_paths[servable.name] / folder
        with translate_os_errors(f"read {version}"):
            digest = hashlib.sha256(str(version.resolve()).encode())
            for path in sorted(version.rglob("*")):
                with suppress(FileNotFoundError):  # gone meanwhile
                    stat = path.stat()
                    known = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
                    digest.update(repr(known).encode())
        return digest.hexdigest()

    def release(self, servable: ServableId) -> None:
        """Does nothing, as nothing was copied."""

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


class LocalVersion:
    """The folder of a version on this machine's disk, to push to; as `VersionFolder`.

    What is not finished lies in a folder `.push-*` beside it, which is no version to anybody.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def look(self) -> Found:
        with translate_os_errors(f"read {self}"):
            if not self._folder.exists():
                return Found()
            if manifest := _manifest(self._folder, MANIFEST):
                return Found(manifest, complete=True)
            return Found(_manifest(self._folder, PUSH), files=files_in(self._folder))

    def put(self, source: Path, files: Mapping[str, File], sent: Callable[[int], None]) -> None:
        with self._beside() as unfinished:
            for name, file in files.items():
                reading = Reading(source / name, file)
                with unfinished.open("wb") as copy:
                    while data := reading.read(_CHUNK):
                        copy.write(data)
                        sent(len(data))
                target = self._folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                unfinished.replace(target)

    def put_manifest(self, name: str, manifest: Manifest) -> Manifest:
        with self._beside() as unfinished:
            unfinished.write_bytes(manifest.to_json())
            self._folder.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                (self._folder / name).hardlink_to(unfinished)
            return Manifest.of_json((self._folder / name).read_bytes(), self._folder / name)

    @contextmanager
    def _beside(self) -> Iterator[Path]:
        """The path of a file on the same disk, which is gone in the end."""
        with translate_os_errors(f"write {self}"):
            base_path = self._folder.parent
            base_path.mkdir(parents=True, exist_ok=True)
            with temporary.folder(".push-", base_path) as folder:
                yield folder / "unfinished"


def _check(folder: Path) -> None:
    manifest = _manifest(folder, MANIFEST)
    if manifest:
        names = {name for name in manifest.files if (folder / name).is_file()}
        check_complete(folder, names, manifest)
        for name, listed in manifest.files.items():
            check_content(folder, name, listed, File.of(folder / name))
    elif folder.is_dir():
        files = (path for path in folder.rglob("*") if path.is_file())
        check_complete(folder, {path.relative_to(folder).as_posix() for path in files}, None)


def _manifest(folder: Path, name: str) -> Manifest | None:
    path = folder / name
    return Manifest.of_json(path.read_bytes(), path) if path.is_file() else None


@contextmanager
def translate_os_errors(attempt: str) -> Iterator[None]:
    """Raises what `of_disk` makes of an OSError."""
    try:
        yield
    except OSError as error:
        raise of_disk(error, attempt) from error
