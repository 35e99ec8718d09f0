"""The folder of a version on this machine's disk, to push to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lambda_serving.errors import translate_os_errors
from lambda_serving.store import temporary
from lambda_serving.store.local import read_manifest
from lambda_serving.store.manifest import MANIFEST, PUSH, File, Found, Manifest, Reading, files_in

__all__ = ["LocalVersion"]

_CHUNK = 2**20


class LocalVersion:
    """A `VersionFolder` on this machine's disk.

    An unfinished file lies in a folder `.push-*` beside it, which nothing takes for a version.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def look(self) -> Found:
        with translate_os_errors(f"read {self}"):
            if not self._folder.exists():
                return Found()
            if manifest := read_manifest(self._folder, MANIFEST):
                return Found(manifest, complete=True)
            return Found(read_manifest(self._folder, PUSH), files=files_in(self._folder))

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
        """Yields a path on the same disk; a file there is removed in the end."""
        with translate_os_errors(f"write {self}"):
            base_path = self._folder.parent
            base_path.mkdir(parents=True, exist_ok=True)
            with temporary.folder(".push-", base_path) as folder:
                yield folder / "unfinished"
