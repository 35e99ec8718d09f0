"""Makes the loaded versions match the aspired ones: loads new versions, then unloads old ones.

Source: core/aspired_versions_manager.{h,cc}. TensorFlow Serving blocks until a failed load is
retried and until a version that is unloading has answered its requests. Nothing blocks here: other
models load and unload meanwhile.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from queue import Empty, SimpleQueue

from lambda_serving.core.aspired_version_policy import Action, Load, Snapshot, next_action
from lambda_serving.core.basic_manager import Manager
from lambda_serving.core.servable_state import State
from lambda_serving.core.threads import submit
from lambda_serving.errors import DiskFull, Internal, NotFound, ServingError, Unavailable
from lambda_serving.model_spec import ServableId

__all__ = ["AspiredVersionsManager", "Retries"]

_log = logging.getLogger(__name__)
_WAITING = {State.START, State.END}


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed load is retried, and after how many seconds."""

    count: int = 5
    seconds: float = 60


@dataclass(slots=True)
class _Version:
    """A version that is aspired, loaded, loading or unloading.

    State START: its load has yet to begin, at `due` by the manager's clock; but with
    `waits_for_files` not before the next `aspire`. State END: its load has failed for good.
    `tried` and `seen` are the fingerprints of its files at the last attempt to load and at the last
    look.
    """

    id: ServableId
    state: State = State.START
    is_aspired: bool = True
    failures: int = 0
    due: float = -inf
    waits_for_files: bool = False
    error: ServingError | None = None
    tried: str = ""
    seen: str = ""


class AspiredVersionsManager:
    """Loads what `aspire` is given on the threads of `loads`, and unloads on those of `unloads`.

    One thread calls `step` until `stop`. Nothing else may load or unload versions of `manager`.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        loads: Executor,
        unloads: Executor,
        retries: Retries = Retries(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._loads = loads
        self._unloads = unloads
        self._retries = retries
        self._clock = clock
        self._changed = threading.Condition()
        self._models: dict[str, dict[int, _Version]] = {}
        self._stopped = False
        # Dropping a version's last reference puts its end here: that may happen anywhere, even in
        # a `put` on the same thread, which only these queues allow (docs of queue, "Reentrancy").
        self._dropped: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._woken: SimpleQueue[None] = SimpleQueue()

    def aspire(self, name: str, versions: Collection[int]) -> None:
        """Makes these, and no others, the versions of a model that should be loaded.

        A version whose files were incomplete is tried again. A version whose load failed, even for
        good, is tried again once its files have changed and been stable for one poll. For example,
        `aspire("m", {2})` after `aspire("m", {1})` loads version 2, then unloads version 1.
        """
        changed = self._changed_files(name, versions)
        with self._changed:
            known = self._known(name)
            for version in [*known.values()]:
                if version.id.version not in versions:
                    version.is_aspired = False
                    if version.state in _WAITING:
                        self._forget(version, version.error)
            for number in versions:
                if number not in known:
                    self._start(ServableId(name, number))
                known[number].is_aspired, known[number].waits_for_files = True, False
            for version in changed:
                if version.is_aspired and version.state in _WAITING:
                    version.state, version.failures, version.due = State.START, 0, -inf
        self._wake()

    def advance(self) -> float | None:
        """Starts every load and unload that is due; returns the seconds until the next load."""
        while actions := self._next_actions():
            self._begin(actions)
        while not self._dropped.empty():
            submit(self._unloads, self._dropped.get())
        with self._changed:
            due = [each.due for known in self._models.values() for each in known.values()]
        now = self._clock()
        return min((moment - now for moment in due if now < moment), default=None)

    def step(self) -> bool:
        """Advances, then waits until there may be more to do; returns False after `stop`."""
        seconds = self.advance()
        with suppress(Empty):
            self._woken.get(timeout=seconds)
        return not self._stopped

    def stop(self) -> None:
        self._stopped = True
        self._wake()

    def settle(self, names: Collection[str]) -> list[str]:
        """Waits until each aspired version of these models has loaded or failed at least once.

        Returns a sentence for each failure; a version that waits for its files counts as failed.
        """

        def aspired() -> list[_Version]:
            known = (each for name in names for each in self._models.get(name, {}).values())
            return [version for version in known if version.is_aspired]

        def settled() -> bool:
            done = (each.state is State.AVAILABLE or each.error for each in aspired())
            return self._stopped or all(done)

        with self._changed:
            self._changed.wait_for(settled)
            return [f"{each.id} due to error: {each.error}" for each in aspired() if each.error]

    def _changed_files(self, name: str, versions: Collection[int]) -> list[_Version]:
        """Failed versions whose files changed after the attempt but not since the last look."""
        with self._changed:
            known = self._models.get(name, {})
            asked = (each for number, each in known.items() if number in versions)
            failed = [each for each in asked if each.error and each.state in _WAITING]
        changed = []
        for version in failed:
            now = self._manager.fingerprint(version.id)
            if now == version.seen != version.tried:
                changed.append(version)
            version.seen = now or version.seen
        return changed

    def _wake(self) -> None:
        """Makes `step` and `settle` look again."""
        self._woken.put(None)
        with self._changed:
            self._changed.notify_all()

    def _known(self, name: str) -> dict[int, _Version]:
        """The known versions of a model; at first those that are loaded."""
        if name not in self._models:
            self._models[name] = {
                loaded.id.version: _Version(loaded.id, State.AVAILABLE)
                for loaded in self._manager.models().get(name, [])
            }
        return self._models[name]

    def _start(self, servable_id: ServableId) -> None:
        self._models[servable_id.name][servable_id.version] = _Version(servable_id)
        self._manager.states.report(servable_id, State.START)

    def _forget(self, version: _Version, error: ServingError | None = None) -> None:
        known = self._models[version.id.name]
        if known.get(version.id.version) is version:
            del known[version.id.version]
        self._manager.states.report(version.id, State.END, error)

    def _next_actions(self) -> list[tuple[_Version, Action]]:
        """What may start now; each version is already put in its new state."""
        now, found = self._clock(), []
        with self._changed:
            for known in self._models.values():
                while action := next_action([_snapshot(each, now) for each in known.values()]):
                    version = known[action.version]
                    loading = isinstance(action, Load)
                    version.state = State.LOADING if loading else State.UNLOADING
                    found.append((version, action))
        return found

    def _begin(self, actions: Sequence[tuple[_Version, Action]]) -> None:
        """Begins each action; one that cannot begin stays due, and its error is raised."""
        problem: Exception | None = None
        for version, action in actions:
            try:
                if isinstance(action, Load):
                    submit(self._loads, partial(self._load, version))
                else:
                    self._manager.unload(version.id, partial(self._drop, version))
            except Exception as error:  # noqa: BLE001 - raised below
                problem = error
                with self._changed:
                    version.state = State.START if isinstance(action, Load) else State.AVAILABLE
        if problem:
            raise problem

    def _load(self, version: _Version) -> None:
        """One attempt, on a thread of `loads`."""
        try:
            if version.is_aspired:
                self._try(version)
            else:  # it was retired while the load waited for a thread
                with self._changed:
                    self._forget(version)
        except Exception as error:  # noqa: BLE001 - nothing above this on the thread reports it
            _log.exception("Loading %s failed", version.id)
            self._failed(version, Internal(f"Loading failed: {error!r}"))
        self._wake()

    def _try(self, version: _Version) -> None:
        fetched = False
        self._manager.states.report(version.id, State.LOADING, version.error)
        version.tried = version.seen = self._manager.fingerprint(version.id)
        try:
            path = self._manager.fetch(version.id)
            fetched = True
            self._manager.load(version.id, path)
        except ServingError as error:
            files_may_come = not fetched and isinstance(error, Unavailable | NotFound | DiskFull)
            self._failed(version, error, files_may_come=files_may_come)
        else:
            with self._changed:
                version.state, version.error = State.AVAILABLE, None

    def _failed(
        self, version: _Version, error: ServingError, *, files_may_come: bool = False
    ) -> None:
        report = self._manager.states.report
        with self._changed:
            version.error = type(error)(str(error))  # a traceback would keep the servable alive
            version.state = State.START
            if not version.is_aspired:
                self._forget(version, error)
            elif files_may_come:
                version.waits_for_files = True
                report(version.id, State.START, error)
            elif version.failures < self._retries.count:
                version.failures += 1
                version.due = self._clock() + self._retries.seconds
                report(version.id, State.LOADING, error)
            else:
                version.state = State.END
                report(version.id, State.END, error)

    def _drop(self, version: _Version, end: Callable[[], None]) -> None:
        self._dropped.put(partial(self._end, version, end))
        self._woken.put(None)

    def _end(self, version: _Version, end: Callable[[], None]) -> None:
        """Releases a version's memory, on a thread of `unloads`."""
        try:
            end()
        except Exception:  # noqa: BLE001 - as in `_load`
            _log.exception("Unloading %s failed", version.id)
        with self._changed:
            self._forget(version)
            if version.is_aspired:  # aspired again while it was unloading
                self._start(version.id)
        self._wake()


def _snapshot(version: _Version, now: float) -> Snapshot:
    """A version that may not be loaded yet counts as loading."""
    waits = version.waits_for_files or version.due > now
    state = State.LOADING if waits and version.state is State.START else version.state
    return Snapshot(version.id.version, version.is_aspired, state)
