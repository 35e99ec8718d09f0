"""SavedModels on this machine's disk, and what makes a name a version in any store."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lambda_serving.errors import NotFound, Unavailable
from lambda_serving.model_spec import ServableId

__all__ = ["SHOWN", "LocalStore", "by_version"]

SHOWN = 10  # names that a message shows of what lies under a base path
_VERSION = re.compile(r"\s*[+-]?[0-9]{1,20}\s*", re.ASCII)
_MAX_VERSION = 2**63 - 1


def by_version(names: Iterable[str]) -> dict[int, str]:
    """The names that are versions; of several names for one version the last one counts.

    A name is a version when all of it is an integer, leading zeros, a sign and blanks around it
    allowed (file_system_storage_path_source.cc, absl::SimpleAtoi). What is in it is not looked
    at.
    """
    return {
        int(name): name
        for name in sorted(names)
        if _VERSION.fullmatch(name) and 0 <= int(name) <= _MAX_VERSION
    }


class LocalStore:
    """Base paths on this machine's disk, by model."""

    def __init__(self, base_paths: Mapping[str, str]) -> None:
        self._base_paths = {name: Path(path) for name, path in base_paths.items()}

    def versions(self, name: str) -> list[int]:
        return sorted(by_version(self._names(name)))

    def contents(self, name: str) -> list[str]:
        return sorted(self._names(name))[:SHOWN]

    def fetch(self, servable: ServableId) -> Path:
        base_path = self._base_paths[servable.name]
        try:
            return base_path / by_version(self._names(servable.name))[servable.version]
        except KeyError:
            raise NotFound(
                f"Version {servable.version} of model {servable.name} is not under {base_path}"
            ) from None

    def _names(self, name: str) -> list[str]:
        base_path = self._base_paths[name]
        try:
            return [child.name for child in base_path.iterdir()]
        except OSError as error:
            raise Unavailable(
                f"Could not read the base path {base_path} of model {name}: {error.strerror}"
            ) from error
