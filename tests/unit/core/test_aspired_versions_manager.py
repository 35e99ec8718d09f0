import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import pytest

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.core import threads
from lambda_serving.core.aspired_versions_manager import AspiredVersionsManager, Retries
from lambda_serving.core.basic_manager import Manager, State
from lambda_serving.errors import DataLoss, NotFound, Unavailable
from lambda_serving.model_spec import ModelSpec, ServableId
from support.memory_store import MemoryLoader, MemoryStore

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _AtOnce(Executor):
    """Runs what is submitted in the thread that submits it."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        done = Future[_T]()
        done.set_result(fn(*args, **kwargs))
        return done


class _Later(Executor):
    """Keeps what is submitted until told to run it."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future[_T]()

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()


@dataclass
class _Clock:
    now: float = 0

    def __call__(self) -> float:
        return self.now


@dataclass
class _Serving:
    """Models `m` and `n`, versions 1 of which are loaded, and the clock of the retries."""

    store: MemoryStore
    loader: MemoryLoader
    clock: _Clock
    manager: Manager
    versions: AspiredVersionsManager

    @classmethod
    def of(cls, loads: Executor, unloads: Executor) -> "_Serving":
        store, loader, clock = MemoryStore({"m": [1], "n": [1]}), MemoryLoader(), _Clock()
        manager = Manager(store, loader)
        manager.serve([ModelConfig("m", "/m"), ModelConfig("n", "/n")])
        versions = AspiredVersionsManager(
            manager, loads=loads, unloads=unloads, retries=Retries(2, 60), clock=clock
        )
        return cls(store, loader, clock, manager, versions)

    def aspire(self, name: str, *versions: int) -> float | None:
        self.versions.aspire(name, versions)
        return self.versions.advance()

    def available(self, name: str = "m") -> list[int]:
        return [loaded.id.version for loaded in self.manager.models()[name]]

    def statuses(self, name: str = "m") -> dict[int, tuple[State, str]]:
        return {
            each.version: (each.state, str(each.error or ""))
            for each in self.manager.states.of(name)
        }


@pytest.fixture
def serving() -> _Serving:
    return _Serving.of(_AtOnce(), _AtOnce())


@pytest.fixture(autouse=True)
def _only_references_count() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_aspiring_to_what_is_loaded_changes_nothing(serving: _Serving) -> None:
    assert serving.aspire("m", 1) is None
    assert serving.loader.loaded == ["m/1", "n/1"]
    assert serving.available() == [1]


def test_new_version_replaces_the_old_one_and_back(serving: _Serving) -> None:
    serving.aspire("m", 2)
    assert serving.available() == [2]
    assert serving.statuses() == {2: (State.AVAILABLE, ""), 1: (State.END, "")}
    serving.aspire("m", 1)
    assert serving.available() == [1]
    assert serving.statuses() == {2: (State.END, ""), 1: (State.AVAILABLE, "")}
    assert serving.loader.closed == ["m/1", "m/2"]
    assert serving.store.released == [ServableId("m", 1), ServableId("m", 2)]


def test_keeps_serving_old_version_until_new_is_loaded() -> None:
    loads = _Later()
    serving = _Serving.of(loads, _AtOnce())
    serving.aspire("m", 2)
    assert serving.available() == [1]
    assert serving.statuses() == {2: (State.START, ""), 1: (State.AVAILABLE, "")}
    loads.run()
    assert serving.available() == [2, 1]
    serving.versions.advance()
    assert serving.available() == [2]


def test_largest_version_loads_first(serving: _Serving) -> None:
    serving.aspire("m", 1, 3, 2)
    assert serving.loader.loaded[2:] == ["m/3", "m/2"]
    assert serving.available() == [3, 2, 1]


def test_nothing_aspired_unloads_all_of_that_model(serving: _Serving) -> None:
    serving.aspire("m")
    assert (serving.available(), serving.available("n")) == ([], [1])
    assert not serving.manager.ready()


def test_version_that_someone_holds_is_unloading_until_it_is_dropped(serving: _Serving) -> None:
    servable = serving.manager.get(ModelSpec("m")).servable
    serving.aspire("m", 2)
    assert serving.statuses()[1] == (State.UNLOADING, "")
    assert serving.loader.closed == []
    del servable
    serving.versions.advance()
    assert serving.statuses()[1] == (State.END, "")
    assert serving.loader.closed == ["m/1"]


def test_version_aspired_again_while_it_unloads_is_loaded_anew(serving: _Serving) -> None:
    servable = serving.manager.get(ModelSpec("m")).servable
    serving.aspire("m", 2)
    serving.aspire("m", 1)
    assert (serving.available(), serving.statuses()[1]) == ([2], (State.UNLOADING, ""))
    del servable
    serving.versions.advance()
    serving.versions.advance()
    assert serving.available() == [1]
    assert serving.loader.closed == ["m/1", "m/2"]


def test_failing_load_is_tried_again_then_given_up(serving: _Serving) -> None:
    serving.loader.broken["m/2"] = DataLoss("cut short")
    assert serving.aspire("m", 2) == 60
    assert serving.statuses()[2] == (State.LOADING, "cut short")
    serving.clock.now = 59
    assert serving.versions.advance() == 1
    serving.clock.now = 60
    assert serving.versions.advance() == 60
    serving.clock.now = 120
    assert serving.versions.advance() is None
    assert serving.statuses() == {2: (State.END, "cut short"), 1: (State.AVAILABLE, "")}
    assert serving.manager.states.of("m", 2)[0].error_code == "DATA_LOSS"
    assert serving.store.released == [ServableId("m", 2)] * 3
    assert serving.available() == [1]


def test_load_that_works_at_last_forgets_its_failures(serving: _Serving) -> None:
    serving.loader.broken["m/2"] = DataLoss("cut short")
    serving.aspire("m", 2)
    serving.loader.broken.clear()
    serving.clock.now = 60
    serving.versions.advance()
    assert serving.statuses() == {2: (State.AVAILABLE, ""), 1: (State.END, "")}


def _give_up(serving: _Serving) -> None:
    serving.loader.broken["m/2"] = DataLoss("broken")
    serving.aspire("m", 2)
    for serving.clock.now in (60, 120):
        serving.versions.advance()
    assert serving.statuses()[2] == (State.END, "broken")
    serving.loader.broken.clear()


def test_version_given_up_is_not_tried_again(serving: _Serving) -> None:
    _give_up(serving)
    assert serving.aspire("m", 2) is None
    assert serving.available() == [1]


def test_version_given_up_is_tried_again_once_it_was_gone(serving: _Serving) -> None:
    _give_up(serving)
    serving.aspire("m", 1)
    assert serving.statuses()[2] == (State.END, "broken")
    serving.aspire("m", 2)
    assert serving.available() == [2]


def test_version_is_tried_anew_once_its_files_have_changed_and_stay_so(serving: _Serving) -> None:
    files, two = serving.store.fingerprints, ServableId("m", 2)
    serving.loader.broken["m/2"] = DataLoss("cut short")
    serving.aspire("m", 2)
    del serving.loader.broken["m/2"]
    for files[two] in ("longer", "longer still", ""):  # "": the disk did not answer
        serving.aspire("m", 2)
        assert serving.statuses()[2] == (State.LOADING, "cut short")
    files[two] = "longer still"
    serving.aspire("m", 2)
    assert serving.statuses()[2] == (State.AVAILABLE, "")


def test_version_given_up_is_tried_anew_as_often_once_its_files_have_changed(
    serving: _Serving,
) -> None:
    serving.loader.broken["m/2"] = DataLoss("cut short")
    serving.aspire("m", 2)
    for serving.clock.now in (60, 120):
        serving.versions.advance()
    assert serving.statuses()[2] == (State.END, "cut short")
    serving.store.fingerprints[ServableId("m", 2)] = "others"
    serving.aspire("m", 2)
    assert serving.aspire("m", 2) == 60
    assert serving.statuses()[2] == (State.LOADING, "cut short")
    del serving.loader.broken["m/2"]
    serving.clock.now = 180
    serving.versions.advance()
    assert serving.statuses()[2] == (State.AVAILABLE, "")


def test_load_that_fails_does_not_keep_other_models_waiting(serving: _Serving) -> None:
    serving.loader.broken["m/2"] = DataLoss("broken")
    serving.aspire("m", 2)
    serving.aspire("n", 2)
    assert serving.available("n") == [2]


def test_retries_end_when_the_version_is_not_aspired_any_more(serving: _Serving) -> None:
    serving.loader.broken["m/2"] = DataLoss("broken")
    serving.aspire("m", 2)
    assert serving.aspire("m", 1) is None
    assert serving.statuses()[2] == (State.END, "broken")


@pytest.mark.parametrize("absence", [Unavailable("not complete"), NotFound("just gone")])
def test_version_that_is_not_complete_waits_for_the_next_look(
    serving: _Serving, absence: Unavailable | NotFound
) -> None:
    serving.store.unfetchable[ServableId("m", 2)] = absence
    for _ in range(9):  # more often than a load is tried
        assert serving.aspire("m", 2) is None
        assert serving.versions.advance() is None
    assert serving.statuses() == {2: (State.START, str(absence)), 1: (State.AVAILABLE, "")}
    serving.store.unfetchable.clear()
    serving.aspire("m", 2)
    assert serving.statuses() == {2: (State.AVAILABLE, ""), 1: (State.END, "")}


def test_unforeseen_error_is_a_failure_like_others(
    serving: _Serving, caplog: pytest.LogCaptureFixture
) -> None:
    serving.loader.broken["m/2"] = ValueError("odd")
    serving.aspire("m", 2)
    assert serving.statuses()[2] == (State.LOADING, "Loading failed: ValueError('odd')")
    assert "Traceback" in caplog.text


def test_version_not_aspired_any_more_when_its_turn_comes_is_not_loaded() -> None:
    loads = _Later()
    serving = _Serving.of(loads, _AtOnce())
    serving.aspire("m", 2)
    serving.aspire("m", 1)
    loads.run()
    assert serving.loader.loaded == ["m/1", "n/1"]
    assert serving.statuses()[2] == (State.END, "")


def test_unloading_happens_in_its_own_threads() -> None:
    unloads = _Later()
    serving = _Serving.of(_AtOnce(), unloads)
    serving.aspire("m", 2)
    assert (serving.available(), serving.loader.closed) == ([2], [])
    unloads.run()
    assert serving.loader.closed == ["m/1"]


def test_failure_keeps_nothing_of_what_was_loaded(serving: _Serving) -> None:
    class Large:
        pass

    kept: list[weakref.ref[Large]] = []

    def load(_: object) -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise DataLoss(f"{large} does not fit")

    manager = Manager(serving.store, load)  # type: ignore[arg-type] # it returns nothing ever
    manager.configure([ModelConfig("m", "/m")], serving.store)
    versions = AspiredVersionsManager(manager, loads=_AtOnce(), unloads=_AtOnce())
    versions.aspire("m", [1])
    versions.advance()
    assert [each() for each in kept] == [None]


def test_settles_when_new_versions_have_loaded_or_failed(serving: _Serving) -> None:
    serving.loader.broken["m/2"] = DataLoss("broken")
    serving.store.unfetchable[ServableId("m", 3)] = Unavailable("not complete")
    serving.aspire("m", 1, 2, 3)
    serving.aspire("n", 2)
    assert serving.versions.settle(["n"]) == []
    assert serving.versions.settle(["n", "m"]) == [
        "{name: m version: 2} due to error: broken",
        "{name: m version: 3} due to error: not complete",
    ]


def test_runs_in_threads_until_stopped() -> None:
    with ThreadPoolExecutor() as pool:
        serving = _Serving.of(pool, pool)
        running = threads.start("manager", serving.versions.step)
        serving.versions.aspire("m", [2])
        assert serving.versions.settle(["m"]) == []
        assert serving.manager.get(ModelSpec("m", version=2)).id == ServableId("m", 2)
        serving.versions.stop()
        running.join(300)
        assert not running.is_alive()
