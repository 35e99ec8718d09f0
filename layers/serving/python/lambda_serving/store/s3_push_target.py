"""The folder of a version in an S3 bucket, to push to."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from lambda_serving.errors import AlreadyExists
from lambda_serving.store.address import Address
from lambda_serving.store.manifest import MANIFEST, PUSH, File, Found, Manifest, Reading
from lambda_serving.store.s3 import (
    connect,
    read_manifest,
    sent_to,
    sizes_below,
    transfers,
    translate_errors,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Version"]

# S3 has a checksum SHA256 of its own, but of an object that came in parts it is one of the parts'
# checksums, and rclone's server does not keep it. Metadata of ours survives both.
_SHA256 = "sha256"
_PATIENCE = 60  # seconds for a part to be acknowledged: no API Gateway waits for a push
_NEEDED = "s3:PutObject and s3:AbortMultipartUpload on its objects"


class S3Version:
    """`s3://bucket/prefix/VERSION`, as `VersionFolder`."""

    def __init__(self, uri: str, client: "S3Client | None" = None) -> None:
        """Raises what `Address.in_bucket` raises."""
        self._folder = Address.in_bucket(uri)
        with translate_errors(self._folder):
            self._client = client or connect(_PATIENCE)

    def __str__(self) -> str:
        return str(self._folder)

    def look(self) -> Found:
        sizes = sizes_below(self._client, self._folder)
        if MANIFEST in sizes:
            manifest = read_manifest(self._client, self._folder, MANIFEST)
            return Found(manifest, complete=True)
        started = sizes.pop(PUSH, None) is not None
        with ThreadPoolExecutor(10) as pool:
            digests = pool.map(self._digest, sizes)
            files = dict(zip(sizes, map(File, sizes.values(), digests), strict=True))
        pushed = read_manifest(self._client, self._folder, PUSH) if started else None
        return Found(pushed, files=files)

    def put(self, source: Path, files: Mapping[str, File], sent: Callable[[int], None]) -> None:
        with (
            translate_errors(self, doing="write", needed=_NEEDED),
            transfers(self._client) as manager,
        ):
            uploads = [
                manager.upload(
                    cast("IO[bytes]", Reading(source / name, file)),  # only `read` is asked of it
                    self._folder.bucket,
                    self._folder.prefix + name,
                    extra_args={"Metadata": {_SHA256: file.sha256}},
                    subscribers=[sent_to(sent)],
                )
                for name, file in files.items()
            ]
            for upload in uploads:
                upload.result()

    def put_manifest(self, name: str, manifest: Manifest) -> Manifest:
        """A store that ignores If-None-Match, as rclone's server does, takes the last of two."""
        with (
            suppress(AlreadyExists),
            translate_errors(f"{self}/{name}", doing="write", needed=_NEEDED),
        ):
            self._client.put_object(
                Bucket=self._folder.bucket,
                Key=self._folder.prefix + name,
                Body=manifest.to_json(),
                ContentType="application/json",
                IfNoneMatch="*",
            )
        return read_manifest(self._client, self._folder, name)

    def _digest(self, name: str) -> str:
        """The digest of an object that was pushed, else an empty string."""
        with translate_errors(self):
            head = self._client.head_object(
                Bucket=self._folder.bucket, Key=self._folder.prefix + name
            )
        # rclone's server answers with a capital letter
        return {key.lower(): value for key, value in head["Metadata"].items()}.get(_SHA256, "")
