"""Looks for the versions of models, again and again, and says which are aspired.

Source: sources/storage_path/file_system_storage_path_source.cc. There, one base path that cannot
be read ends the look at all others, too; here it changes nothing but what its own model gets.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import aspired
from lambda_serving.core.basic_manager import no_versions
from lambda_serving.errors import ServingError
from lambda_serving.store import Store

__all__ = ["Source", "Waits"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds between two looks at a base path; a listing of a bucket is a request that costs."""

    folder: float = 1
    bucket: float = 30

    def after(self, base_path: str) -> float:
        return max(self.folder, self.bucket) if "://" in base_path else self.folder


@dataclass(slots=True)
class _Watched:
    """A model, when its base path is looked at next, and what was last said of it."""

    model: ModelConfig
    due: float = -inf
    said: str = ""


class Source:
    """Tells `aspire` the versions of the models configured last."""

    def __init__(
        self,
        aspire: Callable[[str, Collection[int]], None],
        waits: Waits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aspire = aspire
        self._waits = waits
        self._clock = clock
        self._lock = threading.Lock()
        self._store: Store
        self._watched: dict[str, _Watched] = {}

    def configure(self, models: Sequence[ModelConfig], store: Store) -> None:
        """Watches these models, which lie in `store`; nothing is aspired of any other."""
        with self._lock:
            for name in self._watched.keys() - {model.name for model in models}:
                self._aspire(name, ())  # first, so that another call makes up for one that fails
            self._store = store
            self._watched = {model.name: _Watched(model) for model in models}

    def poll(self) -> float:
        """Looks at every base path that is due; seconds until the next one is."""
        with self._lock:
            watched, store = [*self._watched.values()], self._store
        for each in watched:
            if each.due <= self._clock():
                try:
                    self._look(each, store)
                except Exception:  # noqa: BLE001 - or all models behind this one would suffer
                    _log.exception("Could not look at the base path %s", each.model.base_path)
                each.due = self._clock() + self._waits.after(each.model.base_path)
        now = self._clock()
        dues = (each.due for each in watched)
        return max(0, min(dues, default=now + self._waits.folder) - now)

    def problem(self, name: str) -> str:
        """What hinders a model from having any version that could be loaded, else nothing."""
        return self._watched[name].said

    def _look(self, watched: _Watched, store: Store) -> None:
        model = watched.model
        try:
            versions = aspired(model.policy, store.versions(model.name))
            problem = "" if versions else no_versions(model, store.contents(model.name))
        except ServingError as error:
            self._say(watched, f"{error}. Its versions stay as they are")
            return
        self._say(watched, problem)
        with self._lock:
            if self._watched.get(model.name) is watched:  # not configured anew meanwhile
                self._aspire(model.name, versions)

    def _say(self, watched: _Watched, problem: str) -> None:
        """Logs a problem when it is a new one."""
        if problem not in ("", watched.said):
            _log.warning("%s", problem)
        watched.said = problem
