"""Files to be read and files made, in folders or buckets: what a batch job works on."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Protocol

from lambda_serving.errors import Aborted, DataLoss, InvalidArgument, NotFound, Unimplemented
from lambda_serving.store import temporary
from lambda_serving.store.local import explained

__all__ = ["Input", "Inputs", "Outputs", "Pattern", "no_match", "open_inputs", "open_outputs"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_UNFINISHED = ".batch-"
_BUFFER = 2**16  # bytes read at a time: long lines are slow to find in fewer
_BUCKET = 2  # which part of an address in s3:// it is
_WILD = re.compile(r"[*?[]")
_WILD_PIECES = {"*": "[^/]*", "?": "[^/]"}
_EXAMPLES = "such as folder/*.jsonl or s3://BUCKET/PREFIX/*.jsonl"


@dataclass(frozen=True, slots=True)
class Input:
    """A file: its name below the folder of the pattern, bytes, and what differs if it changes."""

    name: str
    size: int
    tag: str


class Inputs(Protocol):
    """The files that a pattern names.

    What reads raises Unavailable or PermissionDenied, with the fix, for what cannot be read.
    """

    def includes(self, address: str) -> bool:
        """Whether a file of this address would be one of them."""
        ...

    def find(self) -> list[Input]:
        """Sorted by name. Raises NotFound when there is none."""
        ...

    def open(self, file: Input) -> AbstractContextManager[IO[bytes]]:
        """Its content from front to back.

        Raises Aborted when it has changed since, DataLoss when it alone cannot be read.
        """
        ...


class Outputs(Protocol):
    """A place for files; `str` of it is its address.

    Every method raises Unavailable, PermissionDenied or ResourceExhausted, with the fix.
    """

    def sizes(self) -> dict[str, int]:
        """What is there, by name."""
        ...

    def read(self, name: str) -> bytes: ...

    def put(self, name: str) -> AbstractContextManager[Path]:
        """A path to write to. When the block ends the file is there entirely, else not at all."""
        ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """A folder, and which names below it are meant.

    `*`, `?` and `[...]` are for characters of one part of a name, `**` is for any folders.
    """

    folder: str
    names: str

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """The folder goes up to the first part that is not to be taken literally.

        Raises InvalidArgument for a text that ends in a slash.
        """
        parts = text.split("/")
        wild = (number for number, part in enumerate(parts) if _WILD.search(part))
        first = next(wild, len(parts) - 1)
        if not parts[-1]:
            raise InvalidArgument(f"The pattern {text} names no files: {_EXAMPLES}")
        if text.startswith("s3://") and first <= _BUCKET:
            raise InvalidArgument(f"The pattern {text} names no bucket, or no files: {_EXAMPLES}")
        folder = "/".join(parts[:first]) or ("/" if first else ".")
        return cls(folder, "/".join(parts[first:]))

    def __str__(self) -> str:
        return f"{self.folder}/{self.names}"

    def includes(self, address: str) -> bool:
        """Whether the file of an address, made as that of the folder, is meant."""
        below = address.removeprefix(self.folder.rstrip("/") + "/")
        return below != address and self.matches(below)

    def matches(self, name: str) -> bool:
        """Whether a name below the folder is meant."""
        return (
            re.fullmatch("".join(map(_expression, self.names.split("/"))), name + "/") is not None
        )


def open_inputs(pattern: str) -> Inputs:
    """The files of a pattern, on this machine or in `s3://bucket/prefix/`.

    Raises InvalidArgument for what is no pattern, Unimplemented for another scheme and for s3://
    without boto3, and what reaching for AWS raises.
    """
    if _is_in_s3("--input", pattern):
        from lambda_serving.store.s3_job_files import S3Inputs  # boto3 takes 0.3 s to import

        return S3Inputs(Pattern.of(pattern))
    return _LocalInputs(Pattern.of(pattern))


def open_outputs(place: str) -> Outputs:
    """A folder of this machine or `s3://bucket/prefix`; raises as `open_inputs` does."""
    if _is_in_s3("--output", place):
        from lambda_serving.store.s3_job_files import S3Outputs  # the same

        return S3Outputs(place)
    return _LocalOutputs(Path(place))


class _LocalInputs:
    """Files on this machine's disk, as `Inputs`."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._folder = Path(pattern.folder)

    def includes(self, address: str) -> bool:
        pattern = Pattern(str(self._folder.absolute()), self._pattern.names)
        return pattern.includes(str(Path(address).absolute()))

    def find(self) -> list[Input]:
        with explained(f"read {self._folder}"):
            paths = [path for path in self._folder.glob(self._pattern.names) if path.is_file()]
            found = [self._look(path.relative_to(self._folder).as_posix()) for path in paths]
        if not found:
            raise NotFound(no_match(self._pattern))
        return sorted(found, key=lambda file: file.name)

    @contextmanager
    def open(self, file: Input) -> Iterator[IO[bytes]]:
        path = self._folder / file.name
        try:
            stream = path.open("rb", _BUFFER)
        except OSError as error:
            raise DataLoss(f"Could not read {path}: {error.strerror}") from error
        with stream:
            yield stream
            if not self._is_there(file):
                raise Aborted(f"{path} changed while it was read. Run the job again")

    def _is_there(self, file: Input) -> bool:
        try:
            return self._look(file.name) == file
        except OSError:
            return False

    def _look(self, name: str) -> Input:
        status = (self._folder / name).stat()
        return Input(name, status.st_size, str(status.st_mtime_ns))


class _LocalOutputs:
    """A folder on this machine's disk, as `Outputs`.

    What is not finished lies in a folder `.batch-*` in it, which a killed job leaves behind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with explained(f"read {self}"):
            if not self._folder.exists():
                return found
            for root, folders, names in os.walk(self._folder, onerror=_refused):
                folders[:] = [name for name in folders if not name.startswith(_UNFINISHED)]
                for path in (Path(root, name) for name in names):
                    found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        return found

    def read(self, name: str) -> bytes:
        with explained(f"read {self._folder / name}"):
            return (self._folder / name).read_bytes()

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        target = self._folder / name
        with explained(f"write {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.folder(_UNFINISHED, self._folder) as beside:
                yield beside / "unfinished"
                (beside / "unfinished").replace(target)


def _refused(error: OSError) -> None:
    raise error


def no_match(pattern: Pattern) -> str:
    return f"No file matches {pattern}. Correct the pattern: {_EXAMPLES}"


def _is_in_s3(flag: str, address: str) -> bool:
    scheme = _SCHEME.match(address)
    if scheme and not address.startswith("s3://"):
        raise Unimplemented(
            f"{flag} {address} has the scheme {scheme[1]}:. Supported are folders and"
            " s3://BUCKET/PREFIX"
        )
    if scheme and find_spec("boto3") is None:
        raise Unimplemented(f"{flag} in s3:// needs boto3: pip install 'lambda-serving[s3]'")
    return bool(scheme)


def _expression(part: str) -> str:
    """A regular expression for one part of a name with the slash behind it."""
    if part == "**":
        return "(?:[^/]+/)*"
    pieces = re.split(r"(\*|\?|\[[^]]+\])", part)
    return "".join(_WILD_PIECES.get(piece) or _literal(piece) for piece in pieces) + "/"


def _literal(piece: str) -> str:
    is_set = piece.startswith("[") and piece.endswith("]") and len(piece) > 1
    return piece.replace("[!", "[^") if is_set else re.escape(piece)
