"""The files of a version, each with its size and digest.

A manifest is JSON: `{"format": 1, "files": {"variables/variables.index": {"size": 150, "sha256":
"<hex>"}, ...}}`. Its keys are sorted, so that the same files give the same bytes. A pushed version
holds it twice. `push.json` is written before the first file and announces the others: if two pushes
run at once, one is refused before it overwrites the other. `manifest.json` is written after the
last file: the version is complete. Neither lists the two, and neither is ever overwritten.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self

from lambda_serving.errors import Aborted, DataLoss, InvalidArgument, Unavailable, Unimplemented
from lambda_serving.store.names import check_name, check_names, names_below

__all__ = ["MANIFEST", "PUSH", "File", "Found", "Manifest", "Reading", "differing", "files_in"]

MANIFEST = "manifest.json"
PUSH = "push.json"
_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


class File(NamedTuple):
    """The size in bytes of a file's content, and its sha256 in hex."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises OSError if the file cannot be read."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
            return cls(stream.tell(), digest.hexdigest())


class Manifest(NamedTuple):
    """The files of a version, by their paths below its folder, with slashes."""

    files: Mapping[str, File]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The files in `folder` now, except the two manifests of an earlier push.

        Raises what `files_in` raises, and InvalidArgument when that push listed other files.
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
        """Raises DataLoss for an invalid manifest, and Unimplemented for a later format."""
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
        """The sha256, in hex, of the manifest itself: equal only for equal files."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def size(self) -> int:
        """The total bytes of all files."""
        return sum(file.size for file in self.files.values())


class Found(NamedTuple):
    """What the folder of a version holds before a push.

    `pushed` lists the files of an earlier push, None if there was none. If that push is `complete`,
    `files` is empty; otherwise it has the files that are there, with "" for an unknown digest.
    """

    pushed: Manifest | None = None
    complete: bool = False
    files: Mapping[str, File] = MappingProxyType({})


class Reading:
    """The bytes that `file` lists of the file at `path`, read once from front to back.

    The last `read` raises Aborted if the file has changed, so that a copy has the listed content or
    fails. No file is open between reads.
    """

    def __init__(self, path: Path, file: File) -> None:
        self._path = path
        self._file = file
        self._position = 0
        self._digest = hashlib.sha256()

    def read(self, amount: int | None = None) -> bytes:
        """The next `amount` bytes, fewer only at the end; all remaining ones without `amount`."""
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
    """The sorted names of files that only one side has, or whose content differs."""
    names = sorted(some.keys() | others.keys())
    return [name for name in names if some.get(name) != others.get(name)]


def files_in(folder: Path) -> dict[str, File]:
    """The files below `folder`, without the manifests; empty folders do not appear.

    Raises InvalidArgument for a file that not every store can hold, and Unavailable for one that
    cannot be read; the message names it.
    """
    try:
        names = sorted({*names_below(folder)} - {MANIFEST, PUSH})
        for name in names:
            check_name(name)
        return {name: File.of(folder / name) for name in names}
    except OSError as error:
        raise Unavailable(f"Could not read {error.filename}: {error.strerror}") from error


def _check(name: str, file: File) -> None:
    check_name(name)
    if not (isinstance(file.size, int) and file.size >= 0 and _SHA256.fullmatch(file.sha256)):
        raise InvalidArgument(f"size and sha256 of {name!r} are {file.size} and {file.sha256}")
    if name in {MANIFEST, PUSH}:
        raise InvalidArgument(f"it lists {name}")
