"""The folder of one version, in any store, as a push sees it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from lambda_serving.errors import InvalidArgument
from lambda_serving.store.address import Address
from lambda_serving.store.local import LocalVersion, by_version
from lambda_serving.store.manifest import File, Found, Manifest

__all__ = ["VersionFolder", "open_version"]


class VersionFolder(Protocol):
    """Where a version is pushed to; `str` of it is its address.

    Every method raises Unavailable, PermissionDenied or ResourceExhausted, with the fix, for what
    the store refuses.
    """

    def look(self) -> Found:
        """What is there; nothing where there is no folder yet."""
        ...

    def put(self, source: Path, files: Mapping[str, File], sent: Callable[[int], None]) -> None:
        """Copies these files of `source`, calling `sent` with bytes, from any thread.

        A file is there entirely or not at all. Raises Aborted when one is not as listed.
        """
        ...

    def put_manifest(self, name: str, manifest: Manifest) -> Manifest:
        """Puts it under `name` if there is none; returns the one that lies there then."""
        ...


def open_version(destination: str) -> VersionFolder:
    """The folder of `BASE_PATH/VERSION`, on this machine or `s3://bucket/prefix/VERSION`.

    Raises what `Address.parse` raises, InvalidArgument when the last part is not a version
    number, and what connecting to AWS raises.
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
