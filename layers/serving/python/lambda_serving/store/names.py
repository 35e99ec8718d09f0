"""Names in a store: which ones are versions, and which ones files can have in every store."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from lambda_serving.errors import InvalidArgument

__all__ = [
    "SHOWN",
    "by_version",
    "check_name",
    "check_names",
    "fits_disk",
    "leaves_folder",
    "names_below",
]

SHOWN = 10
"""How many of the names under a base path a message shows."""
_VERSION = re.compile(r"\s*[+-]?[0-9]{1,20}\s*", re.ASCII)
_MAX_VERSION = 2**63 - 1
_MAX_KEY = 1024  # bytes of a key in S3, including its prefix
_MAX_PART = 255  # bytes of the name of a file or a folder on Linux and macOS
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def by_version(names: Iterable[str]) -> dict[int, str]:
    """The names that are versions; if several mean one version, the last one in order counts.

    A version is an integer with any leading zeros, a sign and blanks around it
    (file_system_storage_path_source.cc, absl::SimpleAtoi). Its content is not read.
    """
    return {
        int(name): name
        for name in sorted(names)
        if _VERSION.fullmatch(name) and 0 <= int(name) <= _MAX_VERSION
    }


def leaves_folder(name: str) -> bool:
    """Whether a path is not that of something below a folder."""
    return not {"", ".", ".."}.isdisjoint(name.split("/")) or "\0" in name


def fits_disk(name: str) -> bool:
    """Whether a file below a folder can have this path on a disk."""
    return not (leaves_folder(name) or _CONTROL.search(name) or _has_long_part(name))


def check_name(name: str) -> None:
    """Raises InvalidArgument unless every store can hold a file with this path in a version."""
    reason = None
    if _CONTROL.search(name):
        reason = "has a control character"
    elif leaves_folder(name):
        reason = "leaves its folder"
    elif len(_bytes(name)) > _MAX_KEY:
        reason = f"is longer than the {_MAX_KEY} bytes of a key in S3"
    elif name.encode(errors="ignore").decode() != name:
        reason = "is not UTF-8"
    if reason:
        raise InvalidArgument(f"The name {name!r} {reason}. Rename the file")


def check_names(names: Collection[str]) -> None:
    """Raises InvalidArgument unless a disk can hold files with all these paths in one folder."""
    for name in filter(_has_long_part, names):
        raise InvalidArgument(
            f"The name {name!r} has a part longer than the {_MAX_PART} bytes that a disk allows."
            " Rename the file"
        )
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if both := sorted(folders & set(names)):
        raise InvalidArgument(
            f"{both[0]!r} is the name of a file and of a folder. Rename one of them"
        )


def names_below(folder: Path) -> Iterator[str]:
    """Paths of all files below `folder`, in no order.

    Raises OSError for a folder that cannot be read, and InvalidArgument for links and devices.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from (f"{entry.name}/{name}" for name in names_below(Path(entry)))
            elif entry.is_file(follow_symlinks=False):
                yield entry.name
            else:
                kind = "a link" if entry.is_symlink() else "not a regular file"
                raise InvalidArgument(
                    f"{entry.path} is {kind}, which not every store can hold. Replace it with a"
                    " copy of its content, or remove it"
                )


def _has_long_part(name: str) -> bool:
    return any(len(_bytes(part)) > _MAX_PART for part in name.split("/"))


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogatepass")
