"""Where SavedModels lie: `base_path/VERSION/saved_model.pb`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from lambda_serving.errors import NotFound, Unavailable, Unimplemented
from lambda_serving.model_spec import ServableId

__all__ = ["LocalStore", "Store"]

_VERSION = re.compile(r"\s*[+-]?[0-9]{1,20}\s*", re.ASCII)
_MAX_VERSION = 2**63 - 1
_SHOWN = 10


class Store(Protocol):
    """Finds the versions of models and brings them to this machine."""

    def versions(self, name: str) -> list[int]:
        """Version numbers under the base path of model `name`, sorted.

        Raises Unavailable when the base path cannot be read; that is not "no versions".
        """
        ...

    def contents(self, name: str) -> list[str]:
        """Some names of what does lie under the base path of model `name`, for messages."""
        ...

    def fetch(self, servable: ServableId) -> Path:
        """A local folder with the version's SavedModel; raises NotFound when it is not there."""
        ...


class LocalStore:
    """Base paths on this machine's disk, by model."""

    def __init__(self, base_paths: Mapping[str, str]) -> None:
        """Raises Unimplemented for a URI: those belong to other stores."""
        for path in base_paths.values():
            if "://" in path:
                raise Unimplemented(
                    f"The base path {path} is not a local folder. Copy the model to one first,"
                    f" e.g. aws s3 sync {path} /models"
                )
        self._base_paths = {name: Path(path) for name, path in base_paths.items()}

    def versions(self, name: str) -> list[int]:
        return sorted(self._folders(name))

    def contents(self, name: str) -> list[str]:
        return [child.name for child in self._children(name)[:_SHOWN]]

    def fetch(self, servable: ServableId) -> Path:
        try:
            return self._folders(servable.name)[servable.version]
        except KeyError:
            raise NotFound(
                f"Version {servable.version} of model {servable.name} is not under"
                f" {self._base_paths[servable.name]}"
            ) from None

    def _folders(self, name: str) -> dict[int, Path]:
        """Children by version; of several names for one version the last one counts.

        A name is a version when all of it is an integer, leading zeros, a sign and blanks
        around it allowed (file_system_storage_path_source.cc, absl::SimpleAtoi). What is in it
        is not looked at.
        """
        return {
            int(child.name): child
            for child in self._children(name)
            if _VERSION.fullmatch(child.name) and 0 <= int(child.name) <= _MAX_VERSION
        }

    def _children(self, name: str) -> list[Path]:
        base_path = self._base_paths[name]
        try:
            return sorted(base_path.iterdir())
        except OSError as error:
            raise Unavailable(
                f"Could not read the base path {base_path} of model {name}: {error.strerror}"
            ) from error
