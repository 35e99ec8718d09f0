"""The folder of one version, in any store, as a push sees it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from lambda_serving.errors import InvalidArgument, Unimplemented
from lambda_serving.store.local import LocalVersion, by_version
from lambda_serving.store.manifest import File, Found, Manifest

__all__ = ["VersionFolder", "open_version"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


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

    Raises InvalidArgument for a last part that is no version number, Unimplemented for another
    scheme and for s3:// without boto3, and what reaching for AWS raises.
    """
    scheme = _SCHEME.match(destination)
    if scheme and not destination.startswith("s3://"):
        raise Unimplemented(
            f"DESTINATION {destination} has the scheme {scheme[1]}:. Supported are folders and"
            " s3://BUCKET/PREFIX/VERSION"
        )
    version = destination.rstrip("/").rpartition("/")[2]
    if [str(number) for number in by_version([version])] != [version]:
        raise InvalidArgument(
            f"The last part of DESTINATION must be a version number, as in"
            f" s3://bucket/models/MLP/2, and that of {destination} is not"
        )
    if not scheme:
        return LocalVersion(Path(destination))
    try:
        from lambda_serving.store.s3_push_target import S3Version  # boto3 takes 0.3 s to import
    except ModuleNotFoundError as error:
        raise Unimplemented(
            f"A DESTINATION in s3:// needs boto3 ({error}): pip install 'lambda-serving[s3]'"
        ) from error
    return S3Version(destination)
