"""Keeps what is loaded as it is aspired to be: new versions first, then the old ones go.

Source: core/aspired_versions_manager.{h,cc}. Where that waits for a load to be tried again, or
for the requests of a version that goes, nothing waits here: other models go on meanwhile.
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
    """How often a load that failed is tried again, and after how many seconds."""

    count: int = 5
    seconds: float = 60


@dataclass(slots=True)
class _Version:
    """A version that is aspired, loaded or on its way; END is that of loads given up.

    In state START it is loaded as soon as the clock shows `due`. `tried` and `seen` are the
    fingerprints of its files when its load was tried last, and when it was last looked at.
    """

    id: ServableId
    state: State = State.START
    is_aspired: bool = True
    failures: int = 0
    due: float = -inf
    error: ServingError | None = None
    tried: str = ""
    seen: str = ""


class AspiredVersionsManager:
    """Loads in the threads of `loads` and unloads in those of `unloads` what `aspire` brings about.

    A thread calls `step` until `stop`; nobody else may load or unload versions of `manager`.
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
        # Callers of the manager put here when they drop a version, maybe inside of anything else
        # that this thread does: these queues alone allow that (docs of queue, "Reentrancy").
        self._dropped: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._woken: SimpleQueue[None] = SimpleQueue()

    def aspire(self, name: str, versions: Collection[int]) -> None:
        """Makes these, and no others, the versions of a model that should be loaded.

        A version whose files were not complete is looked at again. One whose load failed is tried
        anew, also if it was given up, once its files are others and stay so until the next call.
        """
        mended = self._mended(name, versions)
        with self._changed:
            known = self._known(name)
            for version in [*known.values()]:
                if version.id.version not in versions:
                    self._retire(version)
            for number in versions:
                if number not in known:
                    self._start(ServableId(name, number))
                known[number].is_aspired = True
                if known[number].due == inf:
                    known[number].due = -inf
            for version in mended:
                if version.is_aspired and version.state in _WAITING:
                    version.state, version.failures, version.due = State.START, 0, -inf
        self._wake()

    def advance(self) -> float | None:
        """Starts all that is due; seconds until the next load is, None if none waits."""
        while actions := self._next_actions():
            self._begin(actions)
        while not self._dropped.empty():
            submit(self._unloads, self._dropped.get())
        with self._changed:
            due = [each.due for known in self._models.values() for each in known.values()]
        now = self._clock()
        return min((moment - now for moment in due if now < moment < inf), default=None)

    def step(self) -> bool:
        """Advances, then waits until there may be something to do; False after `stop`."""
        seconds = self.advance()
        with suppress(Empty):
            self._woken.get(timeout=seconds)
        return not self._stopped

    def stop(self) -> None:
        self._stopped = True
        self._wake()

    def settle(self, names: Collection[str]) -> list[str]:
        """Waits for the aspired versions of these models to load or to fail, once or for good.

        Returns a sentence for each that failed. What waits for its files has failed, too.
        """

        def aspired() -> list[_Version]:
            return [
                version
                for name in names
                for version in self._models.get(name, {}).values()
                if version.is_aspired
            ]

        def settled() -> bool:
            return self._stopped or all(
                version.state is State.AVAILABLE or version.error for version in aspired()
            )

        with self._changed:
            self._changed.wait_for(settled)
            return [
                f"{version.id} due to error: {version.error}"
                for version in aspired()
                if version.error
            ]

    def _mended(self, name: str, versions: Collection[int]) -> list[_Version]:
        with self._changed:
            known = self._models.get(name, {})
            failed = [
                each
                for number, each in known.items()
                if number in versions and each.error and each.state in _WAITING
            ]
        mended = []
        for version in failed:
            now = self._manager.fingerprint(version.id)
            if now == version.seen != version.tried:
                mended.append(version)
            version.seen = now or version.seen
        return mended

    def _wake(self) -> None:
        """Makes `run` and `settle` look again."""
        self._woken.put(None)
        with self._changed:
            self._changed.notify_all()

    def _known(self, name: str) -> dict[int, _Version]:
        """What is known of a model: at first, what is loaded."""
        if name not in self._models:
            self._models[name] = {
                loaded.id.version: _Version(loaded.id, State.AVAILABLE)
                for loaded in self._manager.models().get(name, [])
            }
        return self._models[name]

    def _start(self, servable_id: ServableId) -> None:
        self._models[servable_id.name][servable_id.version] = _Version(servable_id)
        self._manager.states.report(servable_id, State.START)

    def _retire(self, version: _Version) -> None:
        version.is_aspired = False
        if version.state in _WAITING:
            self._forget(version, version.error)

    def _forget(self, version: _Version, error: ServingError | None = None) -> None:
        known = self._models[version.id.name]
        if known.get(version.id.version) is version:
            del known[version.id.version]
        self._manager.states.report(version.id, State.END, error)

    def _next_actions(self) -> list[tuple[_Version, Action]]:
        """What may start now, in the states that it then is in."""
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
        """Begins all that can begin; raises why one could not, which is then still to be done."""
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
        """One try; runs in a thread of `loads`."""
        try:
            if version.is_aspired:
                self._try(version)
            else:  # any more, since that thread had others to load
                with self._changed:
                    self._forget(version)
        except Exception as error:  # noqa: BLE001 - the end of a thread: nobody else would tell
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
            may_come = not fetched and isinstance(error, Unavailable | NotFound | DiskFull)
            self._failed(version, error, may_come=may_come)
        else:
            with self._changed:
                version.state, version.error = State.AVAILABLE, None

    def _failed(self, version: _Version, error: ServingError, *, may_come: bool = False) -> None:
        report = self._manager.states.report
        with self._changed:
            version.error = type(error)(str(error))  # a traceback would keep what was loaded
            version.state = State.START
            if not version.is_aspired:
                self._forget(version, error)
            elif may_come:
                version.due = inf
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
        """Gives a version's memory back; runs in a thread of `unloads`."""
        try:
            end()
        except Exception:  # noqa: BLE001 - as in `_load`
            _log.exception("Unloading %s failed", version.id)
        with self._changed:
            self._forget(version)
            if version.is_aspired:  # again, while it was on its way out
                self._start(version.id)
        self._wake()


def _snapshot(version: _Version, now: float) -> Snapshot:
    waits = version.state is State.START and version.due > now
    state = State.LOADING if waits else version.state
    return Snapshot(version.id.version, version.is_aspired, state)
