"""Holds the loaded versions of each model and says how each one fares.

Reference counting is Python's: a caller that holds a `Loaded` may finish with it whatever
happens to the version meanwhile.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lambda_serving.errors import Code, FailedPrecondition, NotFound, ServingError, Unavailable
from lambda_serving.model_config import ModelConfig
from lambda_serving.model_spec import ModelSpec, ServableId
from lambda_serving.servable import Servable
from lambda_serving.store import Store
from lambda_serving.version_policy import Specific, aspired, resolve

__all__ = ["Loaded", "Manager", "State", "VersionStatus"]

_log = logging.getLogger(__name__)


class State(Enum):
    """Where a version stands in its life (apis/get_model_status.proto)."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One line of the status call; `error` is there when a load failed."""

    version: int
    state: State
    error: ServingError | None = None

    @property
    def error_code(self) -> str:
        return Code(self.error.code).name if self.error else "OK"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that answers."""

    id: ServableId
    servable: Servable


class Manager:
    """Loads what the configuration aspires to and hands out what is loaded."""

    def __init__(self, store: Store, load: Callable[[Path], Servable]) -> None:
        self._store = store
        self._load = load
        self._lock = threading.Lock()
        self._loaded: dict[str, dict[int, Loaded]] = {}
        self._labels: dict[str, Mapping[str, int]] = {}
        self._statuses: dict[str, dict[int, VersionStatus]] = {}

    def serve(self, models: Sequence[ModelConfig], *, labels_may_wait: bool = False) -> None:
        """Loads every aspired version of every model, largest version first.

        Raises Unavailable, naming all of them, when versions did not load, NotFound when a model
        has none, and FailedPrecondition for a label whose version is not loaded, unless
        `labels_may_wait`. What did load stays loaded.
        """
        failures = [failure for model in models for failure in self._serve_model(model)]
        if failures:
            raise Unavailable(
                f"{len(failures)} servable(s) did not become available: {'; '.join(failures)}"
            )
        for model in models:
            for label, version in model.labels.items():
                if version not in self._loaded[model.name] and not labels_may_wait:
                    raise FailedPrecondition(
                        f"Request to assign label {label} to version {version} of model"
                        f" {model.name}, which is not currently available for inference"
                    )

    def get(self, spec: ModelSpec) -> Loaded:
        """The loaded version that `spec` means; raises as `version_policy.resolve` does."""
        loaded = self._loaded.get(spec.name, {})
        return loaded[resolve(spec, loaded, self._labels.get(spec.name, {})).version]

    def models(self) -> dict[str, list[Loaded]]:
        """Everything loaded, by model, largest version first."""
        return {
            name: [versions[version] for version in sorted(versions, reverse=True)]
            for name, versions in sorted(self._loaded.items())
        }

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Every known version of a model, or one of them, largest first.

        Raises NotFound in the words of servables/tensorflow/get_model_status_impl.cc.
        """
        known = self._statuses.get(name, {})
        if version is not None:
            if version not in known:
                raise NotFound(f"Could not find version {version} of model {name}")
            return [known[version]]
        if not known:
            raise NotFound(f"Could not find any versions of model {name}")
        return [known[number] for number in sorted(known, reverse=True)]

    def ready(self) -> bool:
        """Whether every model has a version that answers."""
        return bool(self._statuses) and all(self._loaded.get(name) for name in self._statuses)

    def close(self) -> None:
        """Unloads everything; requests in flight finish first."""
        with self._lock:
            loaded, self._loaded = self._loaded, {}
        for versions in loaded.values():
            for version in versions.values():
                self._report(version.id, State.UNLOADING)
                version.servable.close()
                self._report(version.id, State.END)

    def _serve_model(self, model: ModelConfig) -> list[str]:
        """Loads a model's aspired versions; a sentence for each that failed."""
        versions = aspired(model.policy, self._store.versions(model.name))
        if not versions:
            raise NotFound(_no_versions(model, self._store.contents(model.name)))
        with self._lock:
            self._labels[model.name] = dict(model.labels)
        ids = [ServableId(model.name, version) for version in versions]
        return [
            f"{each} due to error: {error}" for each in ids if (error := self._serve_version(each))
        ]

    def _serve_version(self, servable_id: ServableId) -> ServingError | None:
        self._report(servable_id, State.LOADING)
        try:
            servable = self._load(self._store.fetch(servable_id))
        except ServingError as error:
            self._report(servable_id, State.END, error)
            return error
        with self._lock:
            versions = self._loaded.get(servable_id.name, {})
            loaded = Loaded(servable_id, servable)
            self._loaded[servable_id.name] = {**versions, servable_id.version: loaded}
        self._report(servable_id, State.AVAILABLE)
        return None

    def _report(
        self, servable_id: ServableId, state: State, error: ServingError | None = None
    ) -> None:
        _log.info("%s: %s%s", servable_id, state.value, f" ({error})" if error else "")
        with self._lock:
            versions = self._statuses.get(servable_id.name, {})
            status = VersionStatus(servable_id.version, state, error)
            self._statuses[servable_id.name] = {**versions, servable_id.version: status}


def _no_versions(model: ModelConfig, contents: Sequence[str]) -> str:
    there = ", ".join(contents) or "nothing"
    if isinstance(model.policy, Specific) and model.policy.versions:
        wanted = ", ".join(map(str, sorted(model.policy.versions)))
        return (
            f"Version {wanted} of servable {model.name} is not under base path"
            f" {model.base_path}. There is: {there}"
        )
    return (
        f"No versions of servable {model.name} found under base path {model.base_path}."
        " Each version is a folder whose name is a number and that holds the SavedModel, e.g."
        f" {model.base_path}/1/saved_model.pb. There is: {there}"
    )
