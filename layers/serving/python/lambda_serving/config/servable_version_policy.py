"""Which versions to load, and which one answers a request: pure functions.

Source: sources/storage_path/file_system_storage_path_source.{proto,cc}, core/manager.h.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.model_spec import ModelSpec, ServableId

__all__ = ["All", "Latest", "Specific", "VersionPolicy", "aspired", "resolve"]


class Latest(NamedTuple):
    """The `num_versions` largest version numbers."""

    num_versions: int = 1

    def __str__(self) -> str:
        return f"latest {self.num_versions}"


class All(NamedTuple):
    """Every available version."""

    def __str__(self) -> str:
        return "all"


class Specific(NamedTuple):
    """The named versions, as far as they are available."""

    versions: frozenset[int]

    def __str__(self) -> str:
        return f"specific {','.join(map(str, sorted(self.versions)))}"


VersionPolicy = Latest | All | Specific
"""`str` gives it as the command `set-policy` takes it."""


def aspired(policy: VersionPolicy, available: Collection[int]) -> list[int]:
    """The versions to load of those available, largest first, which is the order of loading."""
    newest_first = sorted(set(available), reverse=True)
    match policy:
        case Latest(num_versions):
            return newest_first[: max(num_versions, 1)]  # 0 counts as 1
        case All():
            return newest_first
        case Specific(versions):
            return [version for version in newest_first if version in versions]


def resolve(spec: ModelSpec, loaded: Collection[int], labels: Mapping[str, int]) -> ServableId:
    """The loaded version for a request: the version it names, its label's, or the largest.

    Raises InvalidArgument for an unknown label, then NotFound when the version is not loaded, in
    TensorFlow Serving's words and order.
    """
    version = spec.version
    if spec.label is not None:
        if (version := labels.get(spec.label)) is None:
            raise InvalidArgument(f"Unrecognized servable version label: {spec.label}")
        spec = ModelSpec(spec.name, version)
    if version is None:
        version = max(loaded, default=None)
    if version is None or version not in loaded:
        raise NotFound(f"Servable not found for request: {spec}")
    return ServableId(spec.name, version)
