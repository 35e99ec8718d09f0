"""The files that a batch job reads and writes, in folders or buckets."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from lambda_serving.errors import Aborted, DataLoss, NotFound, translate_os_errors
from lambda_serving.store import temporary
from lambda_serving.store.address import Address
from lambda_serving.store.patterns import Input, Pattern, no_match

__all__ = ["Inputs", "Outputs", "open_inputs", "open_outputs"]

_UNFINISHED = ".batch-"
_BUFFER = 2**16  # bytes read at a time; with fewer, finding the end of long lines is slow


class Inputs(Protocol):
    """The files that match a pattern.

    `find` and `open` raise Unavailable or PermissionDenied, with the fix, if reading fails.
    """

    def includes(self, address: str) -> bool:
        """Whether a file at this address would match."""

    def find(self) -> list[Input]:
        """The files, sorted by name. Raises NotFound if there are none."""

    def open(self, file: Input) -> AbstractContextManager[IO[bytes]]:
        """A stream of its content.

        Raises Aborted if it has changed since `find`, and DataLoss if only this file cannot be
        read.
        """


class Outputs(Protocol):
    """A place for files; `str` gives its address.

    Every method raises Unavailable, PermissionDenied or ResourceExhausted, with the fix.
    """

    def sizes(self) -> dict[str, int]:
        """The bytes of each file that is there, by name."""

    def read(self, name: str) -> bytes: ...

    def put(self, name: str) -> AbstractContextManager[Path]:
        """A path to write to. The file appears when the block ends, complete, or not at all."""


def open_inputs(pattern: str) -> Inputs:
    """The files that match, on this machine or in `s3://bucket/prefix/`.

    Raises what `Address.parse`, `Pattern.of` and `store.s3_client.connect` raise.
    """
    if not Address.parse(pattern, "--input").is_bucket:
        return _LocalInputs(Pattern.of(pattern))
    from lambda_serving.store.s3_job_files import S3Inputs  # boto3 takes 0.3 s to import

    return S3Inputs(Pattern.of(pattern))


def open_outputs(place: str) -> Outputs:
    """A folder on this machine or `s3://bucket/prefix`; raises as `open_inputs` does."""
    if not Address.parse(place, "--output").is_bucket:
        return _LocalOutputs(Path(place))
    from lambda_serving.store.s3_job_files import S3Outputs  # boto3, as above

    return S3Outputs(place)


class _LocalInputs:
    """`Inputs` on this machine's disk."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._folder = Path(pattern.folder)

    def includes(self, address: str) -> bool:
        pattern = Pattern(str(self._folder.absolute()), self._pattern.names)
        return pattern.includes(str(Path(address).absolute()))

    def find(self) -> list[Input]:
        with translate_os_errors(f"read {self._folder}"):
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
    """`Outputs` in a folder on this machine's disk.

    An unfinished file lies in a subfolder `.batch-*`, which a killed job leaves behind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with translate_os_errors(f"read {self}"):
            if not self._folder.exists():
                return found
            for root, folders, names in os.walk(self._folder, onerror=_raise):
                folders[:] = [name for name in folders if not name.startswith(_UNFINISHED)]
                for path in (Path(root, name) for name in names):
                    found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        return found

    def read(self, name: str) -> bytes:
        with translate_os_errors(f"read {self._folder / name}"):
            return (self._folder / name).read_bytes()

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        target = self._folder / name
        with translate_os_errors(f"write {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.folder(_UNFINISHED, self._folder) as beside:
                yield beside / "unfinished"
                (beside / "unfinished").replace(target)


def _raise(error: OSError) -> None:
    raise error
