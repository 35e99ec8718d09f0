"""Files in S3 buckets that a batch job reads and writes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lambda_serving.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    NotFound,
    PermissionDenied,
    translate_os_errors,
)
from lambda_serving.store import temporary
from lambda_serving.store.address import Address
from lambda_serving.store.patterns import Input, Pattern, no_match
from lambda_serving.store.s3_client import S3Folder

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Inputs", "S3Outputs"]

_CHUNK = 8 * 2**20  # bytes in one request
_PATIENCE = 60  # seconds for a part of a file to arrive or to be acknowledged


class S3Inputs:
    """`Inputs` in a bucket."""

    def __init__(self, pattern: Pattern, client: "S3Client | None" = None) -> None:
        """Raises what `connect` raises."""
        self._pattern = pattern
        self._folder = S3Folder(Address.parse(pattern.folder), client, _PATIENCE)

    def includes(self, address: str) -> bool:
        return self._pattern.includes(address)

    def find(self) -> list[Input]:
        found = [
            Input(name, each.size, each.tag)
            for name, each in self._folder.objects().items()
            if self._pattern.matches(name)
        ]
        if not found:
            raise NotFound(no_match(self._pattern))
        return sorted(found, key=lambda file: file.name)

    @contextmanager
    def open(self, file: Input) -> Iterator[IO[bytes]]:
        with io.BufferedReader(_Content(self._folder, file), _CHUNK) as stream:
            yield stream


class _Content(io.RawIOBase):
    """An object's content, requested in chunks; each must belong to the listed object."""

    def __init__(self, folder: S3Folder, file: Input) -> None:
        self._folder, self._file, self._position = folder, file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._file.size)
        if end == self._position:
            return 0
        data = self._read(self._position, end)
        view[: len(data)] = data
        self._position = end
        return len(data)

    def _read(self, start: int, end: int) -> bytes:
        name, etag = self._file.name, f'"{self._file.tag}"'
        try:
            return self._folder.get(name, Range=f"bytes={start}-{end - 1}", IfMatch=etag)[0]
        except AlreadyExists as error:  # another object now has the name
            raise Aborted(
                f"{self._folder}/{name} changed while it was read. Run the job again"
            ) from error
        except (NotFound, PermissionDenied) as error:  # it was listed, so this is about it alone
            raise DataLoss(str(error)) from error


class S3Outputs:
    """`Outputs` below `s3://bucket/prefix`; a file is uploaded when it is finished."""

    def __init__(self, uri: str, client: "S3Client | None" = None) -> None:
        """Raises what `Address.in_bucket` and `connect` raise."""
        self._folder = S3Folder(Address.in_bucket(uri), client, _PATIENCE)

    def __str__(self) -> str:
        return str(self._folder)

    def sizes(self) -> dict[str, int]:
        return self._folder.sizes()

    def read(self, name: str) -> bytes:
        return self._folder.get(name)[0]

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        with translate_os_errors(f"write {self}/{name}"), temporary.folder("batch-") as folder:
            yield folder / "unfinished"
            self._folder.upload({name: str(folder / "unfinished")})
