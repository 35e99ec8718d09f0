"""Where SavedModels lie: `base_path/VERSION/saved_model.pb`, on disk or in a bucket."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from lambda_serving.model_spec import ServableId
from lambda_serving.store.address import Address
from lambda_serving.store.local import LocalStore

__all__ = ["LocalStore", "Store", "open_store"]


class Store(Protocol):
    """Finds the versions of models and brings them to this machine."""

    def versions(self, name: str) -> list[int]:
        """Version numbers under the base path of model `name`, sorted.

        Raises Unavailable or PermissionDenied when the base path cannot be read, which does not
        mean "no versions".
        """

    def contents(self, name: str) -> list[str]:
        """Some names found under the base path of model `name`, for messages."""

    def fetch(self, servable: ServableId) -> Path:
        """A local folder with the version's SavedModel; raises NotFound if it is not there.

        Compares a pushed version with its manifest: raises Unavailable when files are missing or
        the push has not ended, and DataLoss when the content of one differs.
        """

    def fingerprint(self, servable: ServableId) -> str:
        """Changes whenever the version's files change; empty if it is not there."""

    def release(self, servable: ServableId) -> None:
        """Ends the use of a fetched version, and deletes a download of it."""


def open_store(base_paths: Mapping[str, str], folder: Path) -> Store:
    """The store of these base paths, by model: local folders or `s3://bucket/prefix`.

    Versions from buckets are downloaded to `folder`, which no other configuration may share.
    Raises what `Address.parse` and `S3Store` raise.
    """
    in_bucket = {
        name: Address.parse(path, f"Model {name}'s base path").is_bucket
        for name, path in base_paths.items()
    }
    local = LocalStore({name: path for name, path in base_paths.items() if not in_bucket[name]})
    if not any(in_bucket.values()):
        return local
    from lambda_serving.store.s3_store import S3Store  # boto3 takes 0.3 s to import

    buckets = S3Store({name: path for name, path in base_paths.items() if in_bucket[name]}, folder)
    return _ByModel({name: buckets if in_bucket[name] else local for name in base_paths})


class _ByModel:
    """Passes each call to the store of its model."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = stores

    def versions(self, name: str) -> list[int]:
        return self._stores[name].versions(name)

    def contents(self, name: str) -> list[str]:
        return self._stores[name].contents(name)

    def fetch(self, servable: ServableId) -> Path:
        return self._stores[servable.name].fetch(servable)

    def fingerprint(self, servable: ServableId) -> str:
        return self._stores[servable.name].fingerprint(servable)

    def release(self, servable: ServableId) -> None:
        self._stores[servable.name].release(servable)
