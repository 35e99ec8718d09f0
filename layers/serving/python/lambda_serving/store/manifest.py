"""What a version consists of: its files, each with size and digest.

A manifest is JSON: `{"format": 1, "files": {"variables/variables.index": {"size": 150, "sha256":
"<hex>"}, ...}}`, keys sorted, so that the same files give the same bytes. A pushed version holds
it twice. `push.json` is put before the first file: this is what will come, so that of two pushes
at once one is refused before it writes over the other. `manifest.json` is put after the last
file: all of it is there. Neither is listed and neither is ever overwritten.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Self

from lambda_serving.errors import Aborted, DataLoss, InvalidArgument, Unavailable, Unimplemented

__all__ = [
    "MANIFEST",
    "PUSH",
    "File",
    "Found",
    "Manifest",
    "Reading",
    "check_names",
    "differing",
    "files_in",
]

MANIFEST = "manifest.json"
PUSH = "push.json"
_FORMAT = 1
_MAX_NAME = 1024  # bytes of a key in S3, its prefix included
_MAX_PART = 255  # bytes of the name of a file or a folder on Linux and macOS
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """Size in bytes and sha256, in hex, of a file's content."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises what reading raises, OSError."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
            return cls(stream.tell(), digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a version, by their names below its folder, parts joined by slashes."""

    files: Mapping[str, File]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """What lies in `folder` now, but for the two files of an earlier push.

        Raises what `files_in` raises, and InvalidArgument when that push had other files.
        """
        made = cls(files_in(folder))
        for path in (folder / MANIFEST, folder / PUSH):
            if not path.exists():
                continue
            listed = cls.of_json(path.read_bytes(), path).files
            if others := differing(listed, made.files):
                raise InvalidArgument(
                    f"{path} is of an earlier push and lists other files than {folder} holds:"
                    f" {', '.join(others)}. Remove it if the change is meant"
                )
        return made

    @classmethod
    def of_json(cls, data: bytes, origin: object) -> Self:
        """Raises DataLoss for what is no manifest, Unimplemented for one of a later format."""
        try:
            document = json.loads(data)
            number, files = document["format"], document["files"]
            if number == _FORMAT:
                made = cls({name: File(**entry) for name, entry in files.items()})
                for name, file in made.files.items():
                    _check(name, file)
                check_names(made.files)
                return made
        except (
            *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
            InvalidArgument,
        ) as error:
            raise DataLoss(
                f"{origin} is not the manifest of a pushed version: {error}. Remove it, or push"
                " the SavedModel again, as a new version"
            ) from error
        raise Unimplemented(
            f"{origin} has the format {number}, and only {_FORMAT} is known here. Install a newer"
            " lambda-serving"
        )

    def to_json(self) -> bytes:
        files = {
            name: {"size": file.size, "sha256": file.sha256} for name, file in self.files.items()
        }
        document = {"format": _FORMAT, "files": files}
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @property
    def digest(self) -> str:
        """Sha256, in hex, of the manifest itself: equal for equal files only."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True, slots=True)
class Found:
    """What the folder of a version holds before a push.

    `pushed` is what an earlier push has, or had, to bring, None where there was none; when it is
    `complete`, its files are not looked at. `files` have an empty digest where it is not known.
    """

    pushed: Manifest | None = None
    complete: bool = False
    files: Mapping[str, File] = field(default_factory=dict)


class Reading:
    """The bytes of the file at `path`, read once, front to back, and just those `file` lists.

    Who copies by it copies what was listed or fails: the last `read` raises Aborted when the file
    was changed since. Between reads nothing is open.
    """

    def __init__(self, path: Path, file: File) -> None:
        self._path = path
        self._file = file
        self._position = 0
        self._digest = hashlib.sha256()

    def read(self, amount: int | None = None) -> bytes:
        """The next `amount` bytes, all that are left without; fewer at the end only."""
        left = self._file.size - self._position
        amount = left if amount is None else min(amount, left)
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._position)
                data = stream.read(amount)
        except OSError as error:
            raise Aborted(f"Could not read {self._path} again: {error.strerror}") from error
        self._digest.update(data)
        self._position += len(data)
        ended = self._position == self._file.size
        if len(data) < amount or (ended and self._digest.hexdigest() != self._file.sha256):
            raise Aborted(
                f"{self._path} was changed while it was pushed. Push again, into a new version"
                " number, when nothing writes to it any more"
            )
        return data


def differing(some: Mapping[str, File], others: Mapping[str, File]) -> list[str]:
    """Names of the files that only one side has, or that have other bytes there, sorted."""
    names = sorted(some.keys() | others.keys())
    return [name for name in names if some.get(name) != others.get(name)]


def files_in(folder: Path) -> dict[str, File]:
    """The files below `folder`, but for the manifests; empty folders, too, are not told.

    Raises InvalidArgument for what not every store can hold, naming it, Unavailable for what
    cannot be read.
    """
    try:
        names = sorted({*_names(folder)} - {MANIFEST, PUSH})
        for name in names:
            _check_name(name)
        return {name: File.of(folder / name) for name in names}
    except OSError as error:
        raise Unavailable(f"Could not read {error.filename}: {error.strerror}") from error


def check_names(names: Collection[str]) -> None:
    """Raises InvalidArgument when a disk cannot hold all files of these names, in one folder."""
    for name in names:
        if any(len(part.encode(errors="surrogatepass")) > _MAX_PART for part in name.split("/")):
            raise InvalidArgument(
                f"The name {name!r} has a part longer than the {_MAX_PART} bytes that a disk"
                " allows. Rename the file"
            )
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if both := sorted(folders & set(names)):
        raise InvalidArgument(
            f"{both[0]!r} is the name of a file and of a folder. Rename one of them"
        )


def _names(folder: Path) -> Iterator[str]:
    """Names of all files below `folder`; OSError for a folder that cannot be read."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from (f"{entry.name}/{name}" for name in _names(Path(entry)))
            elif entry.is_file(follow_symlinks=False):
                yield entry.name
            else:
                kind = "a link" if entry.is_symlink() else "no regular file"
                raise InvalidArgument(
                    f"{entry.path} is {kind}, which not every store can hold. Put a copy of its"
                    " content in its place, or remove it"
                )


def _check(name: str, file: File) -> None:
    _check_name(name)
    if not (isinstance(file.size, int) and file.size >= 0 and _SHA256.fullmatch(file.sha256)):
        raise InvalidArgument(f"size and sha256 of {name!r} are {file.size} and {file.sha256}")
    if name in {MANIFEST, PUSH}:
        raise InvalidArgument(f"it lists {name}")


def _check_name(name: str) -> None:
    """Raises InvalidArgument for what is not the name of a file below a folder, in any store."""
    reason = None
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        reason = "leaves its folder"
    elif _CONTROL.search(name):
        reason = "has a control character"
    elif len(name.encode(errors="surrogatepass")) > _MAX_NAME:
        reason = f"is longer than the {_MAX_NAME} bytes of a key in S3"
    elif name.encode(errors="ignore").decode() != name:
        reason = "is not UTF-8"
    if reason:
        raise InvalidArgument(f"The name {name!r} {reason}. Rename the file")
