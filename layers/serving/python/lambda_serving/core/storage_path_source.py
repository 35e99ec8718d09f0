"""Polls base paths for versions, and reports which versions are aspired.

Source: sources/storage_path/file_system_storage_path_source.cc. There, one unreadable base path
ends the poll of all others; here it affects only its own model.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import inf

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import aspired
from lambda_serving.core.basic_manager import no_versions
from lambda_serving.errors import ServingError
from lambda_serving.model_spec import ServableId
from lambda_serving.store import Store
from lambda_serving.store.address import Address

__all__ = ["Source", "Waits"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds between two polls of a base path; listing a bucket costs money."""

    folder: float = 1
    bucket: float = 30

    def after(self, base_path: str) -> float:
        is_bucket = Address.parse(base_path).is_bucket
        return max(self.folder, self.bucket) if is_bucket else self.folder


@dataclass(slots=True)
class _Watched:
    """A model, when its base path is polled next, and the problem that was last logged.

    `files` are the fingerprints of each aspired version: as it was first seen or loaded again, and
    at the last poll.
    """

    model: ModelConfig
    due: float = -inf
    said: str = ""
    files: dict[int, tuple[str, str]] = field(default_factory=dict)

    def has_changed(self, version: int, now: str) -> bool:
        """Whether files have changed and been stable for one poll; from then on they are known."""
        loaded, before = self.files.get(version, (now, now))
        changed = now == before != loaded
        self.files[version] = (now if changed else loaded, now)
        return changed


class Source:
    """Calls `aspire` with the versions of the most recently configured models.

    If it `reloads`, a version whose files have changed is left out once, and so is loaded again.
    """

    def __init__(
        self,
        aspire: Callable[[str, Collection[int]], None],
        waits: Waits,
        clock: Callable[[], float] = time.monotonic,
        *,
        reloads: bool = False,
    ) -> None:
        self._aspire = aspire
        self._waits = waits
        self._clock = clock
        self._reloads = reloads
        self._lock = threading.Lock()
        self._store: Store
        self._watched: dict[str, _Watched] = {}

    def configure(self, models: Sequence[ModelConfig], store: Store) -> None:
        """Watches these models, which lie in `store`; the versions of all others are retired."""
        with self._lock:
            for name in self._watched.keys() - {model.name for model in models}:
                self._aspire(name, ())  # first: if it fails, the next call does it again
            self._store = store
            self._watched = {model.name: _Watched(model) for model in models}

    def poll(self) -> float:
        """Polls every base path that is due; returns the seconds until the next one is."""
        with self._lock:
            watched, store = [*self._watched.values()], self._store
        for each in watched:
            if each.due <= self._clock():
                try:
                    self._look(each, store)
                except Exception:  # noqa: BLE001 - the models after this one are still polled
                    _log.exception("Could not poll the base path %s", each.model.base_path)
                each.due = self._clock() + self._waits.after(each.model.base_path)
        now = self._clock()
        dues = (each.due for each in watched)
        return max(0, min(dues, default=now + self._waits.folder) - now)

    def problem(self, name: str) -> str:
        """Why a model has no version to load; empty if it has one."""
        return self._watched[name].said

    def _look(self, watched: _Watched, store: Store) -> None:
        model = watched.model
        try:
            versions = aspired(model.policy, store.versions(model.name))
            problem = "" if versions else no_versions(model, store.contents(model.name))
            changed = self._changed(watched, versions, store) if self._reloads else set()
        except ServingError as error:
            self._say(watched, f"{error}. Its versions stay as they are")
            return
        self._say(watched, problem)
        with self._lock:
            if self._watched.get(model.name) is watched:  # not reconfigured meanwhile
                self._aspire(model.name, [each for each in versions if each not in changed])

    def _changed(self, watched: _Watched, versions: Collection[int], store: Store) -> set[int]:
        """The versions to load again."""
        for version in watched.files.keys() - versions:
            del watched.files[version]
        name = watched.model.name
        return {
            each
            for each in versions
            if watched.has_changed(each, store.fingerprint(ServableId(name, each)))
        }

    def _say(self, watched: _Watched, problem: str) -> None:
        """Logs a problem if it is new."""
        if problem not in ("", watched.said):
            _log.warning("%s", problem)
        watched.said = problem
