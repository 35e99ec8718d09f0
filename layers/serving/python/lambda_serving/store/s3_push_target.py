"""The folder of a version in an S3 bucket, to push to."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from lambda_serving.store.address import Address
from lambda_serving.store.manifest import MANIFEST, PUSH, File, Found, Manifest, Reading
from lambda_serving.store.s3_client import S3Folder
from lambda_serving.store.s3_store import read_manifest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Version"]

# S3's own SHA256 of an object that was uploaded in parts is a digest of the parts' digests, and
# rclone's server does not store it. Our metadata has neither problem.
_SHA256 = "sha256"
_PATIENCE = 60  # seconds for a part to be acknowledged; no API Gateway waits for a push


class S3Version:
    """A `VersionFolder` at `s3://bucket/prefix/VERSION`."""

    def __init__(self, uri: str, client: "S3Client | None" = None) -> None:
        """Raises what `Address.in_bucket` and `connect` raise."""
        self._folder = S3Folder(Address.in_bucket(uri), client, _PATIENCE)

    def __str__(self) -> str:
        return str(self._folder)

    def look(self) -> Found:
        sizes = self._folder.sizes()
        if MANIFEST in sizes:
            return Found(read_manifest(self._folder, MANIFEST), complete=True)
        started = sizes.pop(PUSH, None) is not None
        with ThreadPoolExecutor(10) as pool:
            digests = pool.map(self._digest, sizes)
            files = dict(zip(sizes, map(File, sizes.values(), digests), strict=True))
        pushed = read_manifest(self._folder, PUSH) if started else None
        return Found(pushed, files=files)

    def put(self, source: Path, files: Mapping[str, File], sent: Callable[[int], None]) -> None:
        self._folder.upload(
            {
                name: cast("IO[bytes]", Reading(source / name, file))  # boto3 only calls `read`
                for name, file in files.items()
            },
            {name: {_SHA256: file.sha256} for name, file in files.items()},
            sent,
        )

    def put_manifest(self, name: str, manifest: Manifest) -> Manifest:
        self._folder.put(name, manifest.to_json(), "application/json", None)
        return read_manifest(self._folder, name)

    def _digest(self, name: str) -> str:
        """The digest of a pushed object; empty if something else wrote it."""
        return self._folder.metadata(name).get(_SHA256, "")
