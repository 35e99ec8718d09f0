"""The folder of one version, in any store, to push to."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from lambda_serving.errors import InvalidArgument
from lambda_serving.store.address import Address
from lambda_serving.store.local_push_target import LocalVersion
from lambda_serving.store.manifest import File, Found, Manifest
from lambda_serving.store.names import by_version

__all__ = ["VersionFolder", "open_version"]


class VersionFolder(Protocol):
    """Where a version is pushed to; `str` gives its address.

    Every method raises Unavailable, PermissionDenied or ResourceExhausted, with the fix, if the
    store refuses.
    """

    def look(self) -> Found:
        """What is there; an empty `Found` if there is no folder yet."""

    def put(self, source: Path, files: Mapping[str, File], sent: Callable[[int], None]) -> None:
        """Copies these files of `source`, and calls `sent` with numbers of bytes, on any thread.

        Each file arrives entirely or not at all. Raises Aborted for one that is not as listed.
        """

    def put_manifest(self, name: str, manifest: Manifest) -> Manifest:
        """Writes it as `name` unless there is one; returns the one that is there then."""


def open_version(destination: str) -> VersionFolder:
    """The folder of `BASE_PATH/VERSION`, on this machine or `s3://bucket/prefix/VERSION`.

    Raises what `Address.parse` and `store.s3_client.connect` raise, and InvalidArgument if the last
    part is not a version number.
    """
    is_bucket = Address.parse(destination, "DESTINATION").is_bucket
    version = destination.rstrip("/").rpartition("/")[2]
    if [str(number) for number in by_version([version])] != [version]:
        raise InvalidArgument(
            f"The last part of DESTINATION must be a version number, as in"
            f" s3://bucket/models/MLP/2, and that of {destination} is not"
        )
    if not is_bucket:
        return LocalVersion(Path(destination))
    from lambda_serving.store.s3_push_target import S3Version  # boto3 takes 0.3 s to import

    return S3Version(destination)
