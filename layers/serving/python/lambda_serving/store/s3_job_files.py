"""Files in S3 buckets, read and made by a batch job."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lambda_serving.errors import Aborted, AlreadyExists, DataLoss, NotFound, PermissionDenied
from lambda_serving.store import temporary
from lambda_serving.store.address import Address
from lambda_serving.store.local import translate_os_errors
from lambda_serving.store.patterns import Input, Pattern, no_match
from lambda_serving.store.s3 import (
    connect,
    objects_below,
    sizes_below,
    transfers,
    translate_errors,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Inputs", "S3Outputs"]

_CHUNK = 8 * 2**20  # bytes asked for at a time
_PATIENCE = 60  # seconds for a part of a file to come or to be acknowledged
_NEEDED = "s3:PutObject and s3:AbortMultipartUpload on its objects"


class S3Inputs:
    """Objects whose keys a pattern names, as `Inputs`."""

    def __init__(self, pattern: Pattern, client: "S3Client | None" = None) -> None:
        self._pattern = pattern
        self._folder = Address.parse(pattern.folder)
        with translate_errors(self._folder):
            self._client = client or connect(_PATIENCE)

    def includes(self, address: str) -> bool:
        return self._pattern.includes(address)

    def find(self) -> list[Input]:
        found = [
            Input(name, each.size, each.tag)
            for name, each in objects_below(self._client, self._folder).items()
            if self._pattern.matches(name)
        ]
        if not found:
            raise NotFound(no_match(self._pattern))
        return sorted(found, key=lambda file: file.name)

    @contextmanager
    def open(self, file: Input) -> Iterator[IO[bytes]]:
        content = _Content(self._client, self._folder, file)
        with io.BufferedReader(content, _CHUNK) as stream:
            yield stream


class _Content(io.RawIOBase):
    """An object's content, asked for in chunks, each of which must be of the listed object."""

    def __init__(self, client: "S3Client", folder: Address, file: Input) -> None:
        self._client, self._folder, self._file, self._position = client, folder, file, 0

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
        address = f"{self._folder}/{self._file.name}"
        try:
            with translate_errors(address):
                answer = self._client.get_object(
                    Bucket=self._folder.bucket,
                    Key=self._folder.prefix + self._file.name,
                    Range=f"bytes={start}-{end - 1}",
                    IfMatch=f'"{self._file.tag}"',
                )
                return answer["Body"].read()
        except AlreadyExists as error:  # what is there is not what is meant
            raise Aborted(f"{address} changed while it was read. Run the job again") from error
        except (NotFound, PermissionDenied) as error:  # since it was listed, or of it alone
            raise DataLoss(str(error)) from error


class S3Outputs:
    """Objects below `s3://bucket/prefix`, as `Outputs`; each is put when its file is finished."""

    def __init__(self, uri: str, client: "S3Client | None" = None) -> None:
        """Raises what `Address.in_bucket` raises."""
        self._folder = Address.in_bucket(uri)
        with translate_errors(self._folder):
            self._client = client or connect(_PATIENCE)

    def __str__(self) -> str:
        return str(self._folder)

    def sizes(self) -> dict[str, int]:
        return sizes_below(self._client, self._folder)

    def read(self, name: str) -> bytes:
        with translate_errors(f"{self}/{name}"):
            answer = self._client.get_object(
                Bucket=self._folder.bucket, Key=self._folder.prefix + name
            )
            return answer["Body"].read()

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        with (
            translate_os_errors(f"write {self}/{name}"),
            temporary.folder("batch-") as folder,
        ):
            unfinished = folder / "unfinished"
            yield unfinished
            with (
                translate_errors(f"{self}/{name}", doing="write", needed=_NEEDED),
                transfers(self._client) as manager,
            ):
                manager.upload(
                    str(unfinished), self._folder.bucket, self._folder.prefix + name
                ).result()
