"""Holds the loaded versions of each model; loads and unloads one at a time when told to.

Python counts the references: a caller that holds a `Loaded`, or its servable, can finish with it
even if the version is unloaded meanwhile. Unloading hides the version from new callers and closes
it when the last reference is dropped. `get` takes no lock.
Source: core/basic_manager.h.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import Specific, aspired, resolve
from lambda_serving.core.servable_state import ServableStates, State, VersionStatus
from lambda_serving.errors import FailedPrecondition, NotFound, ServingError, Unavailable
from lambda_serving.model_spec import ModelSpec, ServableId
from lambda_serving.servables.servable import Servable
from lambda_serving.store import Store
from lambda_serving.store.other_formats import advice

__all__ = ["Loaded", "Manager", "State", "VersionStatus", "no_versions"]


class Loaded(NamedTuple):
    """A loaded version."""

    id: ServableId
    servable: Servable


class Work(Protocol):
    """The threads that answer requests, as readiness sees them."""

    def stuck(self) -> set[str]:
        """Models that cannot answer because their earlier requests do not end."""
        ...

    def all_stuck(self) -> bool:
        """Whether no model can answer, whether requested before or not."""
        ...


class Manager:
    """Loads the versions that the configuration aspires to, and hands them out."""

    def __init__(self, store: Store, load: Callable[[Path], Servable]) -> None:
        self.states = ServableStates()
        self.store = store
        """Where the most recently configured models lie."""
        self._load = load
        self._lock = threading.Lock()  # writers only: they replace whole mappings for readers
        self._served: frozenset[str] = frozenset()
        self._loaded: dict[str, dict[int, Loaded]] = {}
        self._labels: dict[str, Mapping[str, int]] = {}
        self._origins: dict[ServableId, Store] = {}
        self._draining = False
        self._works: list[Work] = []

    def serve(self, models: Sequence[ModelConfig], *, labels_may_wait: bool = False) -> None:
        """Loads every aspired version of every model, largest version first.

        Raises Unavailable, naming every version that did not load, NotFound when a model has no
        versions, and FailedPrecondition for a label whose version is not loaded, unless
        `labels_may_wait`. Versions that did load stay loaded.
        """
        failures = [failure for model in models for failure in self._serve_model(model)]
        if failures:
            raise Unavailable(
                f"{len(failures)} servable(s) did not become available: {'; '.join(failures)}"
            )
        for model, label in self._labels_of_nothing(models):
            if not labels_may_wait:
                raise FailedPrecondition(
                    f"Request to assign label {label} to version {model.labels[label]} of model"
                    f" {model.name}, which is not currently available for inference"
                )

    def configure(
        self, models: Sequence[ModelConfig], store: Store, *, labels_may_wait: bool = False
    ) -> None:
        """Makes these models, which lie in `store`, the served ones; loads nothing.

        Raises, before anything changes, what `check_labels` raises.
        """
        self.check_labels(models, labels_may_wait=labels_may_wait)
        with self._lock:
            self._labels = {model.name: dict(model.labels) for model in models}
            self._served = frozenset(self._labels)
            self.store = store  # last, because of `_store_of`

    def check_labels(self, models: Sequence[ModelConfig], *, labels_may_wait: bool = False) -> None:
        """Raises FailedPrecondition for a label whose version is not loaded.

        With `labels_may_wait`, only labels already in use must point to loaded versions
        (model_servers/server_core.cc, UpdateModelVersionLabelMap).
        """
        for model, label in self._labels_of_nothing(models):
            if not labels_may_wait or label in self._labels.get(model.name, {}):
                raise FailedPrecondition(
                    f"Request to assign label to version {model.labels[label]} of model"
                    f" {model.name}, which is not currently available for inference"
                )

    def get(self, spec: ModelSpec) -> Loaded:
        """The loaded version that `spec` selects; raises what `resolve` raises."""
        loaded = self._loaded.get(spec.name, {})
        return loaded[resolve(spec, loaded, self._labels.get(spec.name, {})).version]

    def models(self) -> dict[str, list[Loaded]]:
        """Everything loaded, by model, largest version first."""
        return {
            name: [versions[version] for version in sorted(versions, reverse=True)]
            for name, versions in sorted(self._loaded.items())
        }

    def serves(self, name: str) -> bool:
        """Whether a model of this name is served, whatever the state of its versions."""
        return name in self._served

    def ready(self) -> bool:
        """Whether every model has a loaded version and the process is not shutting down."""
        return not self.why_not_ready()

    def why_not_ready(self) -> str:
        """The reason as a sentence; empty when ready."""
        served = self._served
        if not served or self._draining or not all(map(self._loaded.get, served)):
            return "Not ready."
        if any(served <= work.stuck() or work.all_stuck() for work in self._works):
            return "Not ready. All threads have been at work for too long."
        return ""

    def watch(self, work: Work) -> None:
        """Makes readiness depend on `work` not being stuck."""
        self._works.append(work)

    def drain(self) -> None:
        """Reports not ready from now on, so that load balancers send no more requests."""
        self._draining = True

    def close(self) -> None:
        """Unloads everything; requests in flight finish first."""
        with self._lock:
            loaded, self._loaded = self._loaded, {}
        for versions in loaded.values():
            for version in versions.values():
                self.states.report(version.id, State.UNLOADING)
                self._finish(version.id, version.servable.close)

    def fetch(self, servable_id: ServableId) -> Path:
        """The version's files, as `Store.fetch`, kept until `unload`, or until `load` fails."""
        store = self._store_of(servable_id)
        path = store.fetch(servable_id)
        self._origins[servable_id] = store
        return path

    def fingerprint(self, servable_id: ServableId) -> str:
        """As `Store.fingerprint`, also empty when the store cannot be read."""
        try:
            return self._store_of(servable_id).fingerprint(servable_id)
        except ServingError:
            return ""

    def load(self, servable_id: ServableId, path: Path) -> None:
        """Makes a fetched version available; raises what loading it raises."""
        try:
            loaded = Loaded(servable_id, self._load(path))
        except BaseException:
            self._release(servable_id)
            raise
        with self._lock:
            versions = self._loaded.get(servable_id.name, {})
            self._loaded[servable_id.name] = {**versions, servable_id.version: loaded}
        self.states.report(servable_id, State.AVAILABLE)

    def unload(
        self, servable_id: ServableId, dropped: Callable[[Callable[[], None]], object]
    ) -> None:
        """Hides a loaded version; passes its clean-up to `dropped` once no caller holds it.

        `dropped` is called on the thread that dropped the last reference: it must not block.
        """
        self.states.report(servable_id, State.UNLOADING)
        with self._lock:
            versions = dict(self._loaded[servable_id.name])
            servable = versions.pop(servable_id.version).servable
            self._loaded[servable_id.name] = versions
        servable.when_dropped(lambda close: dropped(lambda: self._finish(servable_id, close)))

    def _store_of(self, servable_id: ServableId) -> Store:
        """The store of a served model; raises NotFound if the model is no longer served.

        Reading the store before the names makes this safe: `configure` writes them the other way
        round.
        """
        store = self.store
        if servable_id.name not in self._served:
            raise NotFound(f"Model {servable_id.name} is not served any more")
        return store

    def _serve_model(self, model: ModelConfig) -> list[str]:
        """Loads a model's aspired versions; a sentence for each that failed."""
        versions = aspired(model.policy, self.store.versions(model.name))
        if not versions:
            raise NotFound(no_versions(model, self.store.contents(model.name)))
        with self._lock:
            self._labels[model.name] = dict(model.labels)
            self._served |= {model.name}
        failures = []
        for servable_id in (ServableId(model.name, version) for version in versions):
            self.states.report(servable_id, State.LOADING)
            try:
                self.load(servable_id, self.fetch(servable_id))
            except ServingError as error:
                self.states.report(servable_id, State.END, error)
                failures.append(f"{servable_id} due to error: {error}")
        return failures

    def _labels_of_nothing(
        self, models: Sequence[ModelConfig]
    ) -> Iterator[tuple[ModelConfig, str]]:
        for model in models:
            for label, version in model.labels.items():
                if version not in self._loaded.get(model.name, {}):
                    yield model, label

    def _finish(self, servable_id: ServableId, close: Callable[[], None]) -> None:
        close()
        self._release(servable_id)
        self.states.report(servable_id, State.END)

    def _release(self, servable_id: ServableId) -> None:
        self._origins.pop(servable_id).release(servable_id)


def no_versions(model: ModelConfig, contents: Sequence[str]) -> str:
    """Says that a base path has no versions to serve, and lists what it holds instead."""
    there = ", ".join(contents) or "nothing"
    if isinstance(model.policy, Specific) and model.policy.versions:
        wanted = ", ".join(map(str, sorted(model.policy.versions)))
        return (
            f"Version {wanted} of servable {model.name} is not under base path"
            f" {model.base_path}. The base path holds: {there}"
        )
    told = advice(model.base_path, contents)
    return (
        f"No versions of servable {model.name} found under base path {model.base_path}."
        " Each version is a folder whose name is a number and that holds the SavedModel, e.g."
        f" {model.base_path}/1/saved_model.pb. The base path holds: {there}{told and f'. {told}'}"
    )
