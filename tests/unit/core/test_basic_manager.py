import gc
from collections.abc import Callable

import pytest

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import All
from lambda_serving.core.basic_manager import Manager, State, VersionStatus
from lambda_serving.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from lambda_serving.model_spec import ModelSpec, ServableId
from support.memory_store import MemoryLoader, MemoryStore


@pytest.fixture
def loader() -> MemoryLoader:
    return MemoryLoader()


def _manager(versions: dict[str, list[int]], loader: MemoryLoader) -> Manager:
    return Manager(MemoryStore(versions), loader)


def test_serves_the_latest_of_what_the_policy_aspires(loader: MemoryLoader) -> None:
    manager = _manager({"m": [1, 2, 3]}, loader)
    manager.serve([ModelConfig("m", "/m", All())])
    assert manager.get(ModelSpec("m")).id == ServableId("m", 3)
    assert manager.get(ModelSpec("m", version=1)).id == ServableId("m", 1)
    assert [loaded.id.version for loaded in manager.models()["m"]] == [3, 2, 1]
    assert manager.states.of("m") == [VersionStatus(v, State.AVAILABLE) for v in (3, 2, 1)]


def test_labels_lead_to_their_versions(loader: MemoryLoader) -> None:
    manager = _manager({"m": [1, 2]}, loader)
    manager.serve([ModelConfig("m", "/m", All(), {"stable": 1})])
    assert manager.get(ModelSpec("m", label="stable")).id.version == 1
    with pytest.raises(InvalidArgument):
        manager.get(ModelSpec("m", label="canary"))


def test_label_of_a_version_that_is_not_loaded_fails_the_start(loader: MemoryLoader) -> None:
    manager = _manager({"m": [1]}, loader)
    model = ModelConfig("m", "/m", All(), {"canary": 2})
    with pytest.raises(FailedPrecondition, match="assign label canary to version 2 of model m"):
        manager.serve([model])
    manager.serve([model], labels_may_wait=True)
    with pytest.raises(NotFound, match=r"Specific\(m, 2\)"):
        manager.get(ModelSpec("m", label="canary"))


def test_one_failing_version_leaves_the_others_available(loader: MemoryLoader) -> None:
    loader.broken["m/2"] = DataLoss("shard missing")
    manager = _manager({"m": [1, 2], "n": [1]}, loader)
    with pytest.raises(Unavailable) as raised:
        manager.serve([ModelConfig("m", "/m", All()), ModelConfig("n", "/n")])
    assert str(raised.value) == (
        "1 servable(s) did not become available: {name: m version: 2} due to error: shard missing"
    )
    failed, available = manager.states.of("m")
    assert (failed.version, failed.state, failed.error_code) == (2, State.END, "DATA_LOSS")
    assert str(failed.error) == "shard missing"
    assert available == VersionStatus(1, State.AVAILABLE)
    assert manager.get(ModelSpec("m")).id.version == 1
    assert manager.get(ModelSpec("n")).id.version == 1


def test_base_path_without_versions_is_told_with_the_expected_layout(loader: MemoryLoader) -> None:
    with pytest.raises(
        NotFound,
        match="No versions of servable m .* /m/1/saved_model.pb. The base path holds: tmp, m$",
    ):
        _manager({"m": []}, loader).serve([ModelConfig("m", "/m")])


def test_is_ready_when_every_model_answers(loader: MemoryLoader) -> None:
    manager = _manager({"m": [1], "n": [1]}, loader)
    loader.broken["n/1"] = DataLoss("broken")
    assert not manager.ready()
    manager.serve([ModelConfig("m", "/m")])
    assert manager.ready()
    with pytest.raises(Unavailable):
        manager.serve([ModelConfig("n", "/n")])
    assert not manager.ready()


class _Work:
    """What goes on with the models, as it is told."""

    def __init__(self) -> None:
        self.models = set[str]()
        self.everything = False

    def stuck(self) -> set[str]:
        return self.models

    def all_stuck(self) -> bool:
        return self.everything


def test_is_not_ready_while_nothing_it_serves_can_be_asked(loader: MemoryLoader) -> None:
    manager, work = _manager({"m": [1], "n": [1]}, loader), _Work()
    manager.serve([ModelConfig("m", "/m"), ModelConfig("n", "/n")])
    manager.watch(work)
    for stuck in ({"m"}, {"n"}):
        work.models = stuck
        assert manager.ready()  # the other one answers
    work.models = {"m", "n"}
    stuck_sentence = "Not ready. All threads have been at work for too long."
    assert manager.why_not_ready() == stuck_sentence
    work.models, work.everything = {"m"}, True
    assert manager.why_not_ready() == stuck_sentence
    work.everything = False
    assert manager.why_not_ready() == ""


def test_status_of_what_is_unknown_is_not_found(loader: MemoryLoader) -> None:
    manager = _manager({"m": [1]}, loader)
    manager.serve([ModelConfig("m", "/m")])
    with pytest.raises(NotFound, match="^Could not find any versions of model x$"):
        manager.states.of("x")
    with pytest.raises(NotFound, match="^Could not find version 9 of model m$"):
        manager.states.of("m", 9)


def test_close_unloads_every_version(loader: MemoryLoader) -> None:
    manager = _manager({"m": [1, 2]}, loader)
    manager.serve([ModelConfig("m", "/m", All())])
    manager.close()
    assert sorted(loader.closed) == ["m/1", "m/2"]
    assert manager.states.of("m") == [VersionStatus(2, State.END), VersionStatus(1, State.END)]
    with pytest.raises(NotFound):
        manager.get(ModelSpec("m"))


def test_draining_is_not_ready_but_answers(loader: MemoryLoader) -> None:
    manager = _manager({"m": [1]}, loader)
    manager.serve([ModelConfig("m", "/m")])
    manager.drain()
    assert not manager.ready()
    assert manager.get(ModelSpec("m")).id.version == 1


def test_unloaded_version_ends_when_its_last_caller_drops_it(loader: MemoryLoader) -> None:
    store, ends = MemoryStore({"m": [1]}), list[Callable[[], None]]()
    manager = Manager(store, loader)
    manager.serve([ModelConfig("m", "/m")])
    servable = manager.get(ModelSpec("m")).servable
    gc.disable()  # reference counts alone do it
    try:
        manager.unload(ServableId("m", 1), ends.append)
        with pytest.raises(NotFound):
            manager.get(ModelSpec("m"))
        assert (ends, manager.states.of("m")) == ([], [VersionStatus(1, State.UNLOADING)])
        del servable
        [end] = ends
    finally:
        gc.enable()
    assert loader.closed == []
    end()
    assert (loader.closed, store.released) == (["m/1"], [ServableId("m", 1)])
    assert manager.states.of("m") == [VersionStatus(1, State.END)]


def test_files_of_a_load_that_failed_are_released(loader: MemoryLoader) -> None:
    store = MemoryStore({"m": [1]})
    loader.broken["m/1"] = DataLoss("broken")
    manager = Manager(store, loader)
    manager.configure([ModelConfig("m", "/m")], store)
    with pytest.raises(DataLoss):
        manager.load(ServableId("m", 1), manager.fetch(ServableId("m", 1)))
    assert store.released == [ServableId("m", 1)]


def test_new_configuration_replaces_labels_and_what_must_be_ready(loader: MemoryLoader) -> None:
    store = MemoryStore({"m": [1], "n": [1]})
    manager = Manager(store, loader)
    manager.serve([ModelConfig("m", "/m", labels={"old": 1}), ModelConfig("n", "/n")])
    manager.configure([ModelConfig("m", "/m", labels={"new": 1})], store)
    assert manager.get(ModelSpec("m", label="new")).id.version == 1
    with pytest.raises(InvalidArgument):
        manager.get(ModelSpec("m", label="old"))
    manager.unload(ServableId("n", 1), lambda end: end())
    assert manager.ready()


@pytest.mark.parametrize("labels_may_wait", [False, True])
def test_label_in_use_cannot_move_to_a_version_that_is_not_loaded(
    loader: MemoryLoader,
    labels_may_wait: bool,  # noqa: FBT001 - as pytest passes it
) -> None:
    store = MemoryStore({"m": [1]})
    manager = Manager(store, loader)
    manager.serve([ModelConfig("m", "/m", labels={"stable": 1})])
    moved = ModelConfig("m", "/m", labels={"stable": 2})
    with pytest.raises(FailedPrecondition) as raised:
        manager.configure([moved], store, labels_may_wait=labels_may_wait)
    assert str(raised.value) == (
        "Request to assign label to version 2 of model m, which is not currently available for"
        " inference"
    )
    assert manager.get(ModelSpec("m", label="stable")).id.version == 1


def test_new_label_may_wait_for_its_version(loader: MemoryLoader) -> None:
    store = MemoryStore({"m": [1]})
    manager = Manager(store, loader)
    manager.serve([ModelConfig("m", "/m")])
    labelled = ModelConfig("m", "/m", labels={"canary": 2})
    with pytest.raises(FailedPrecondition):
        manager.configure([labelled], store)
    manager.configure([labelled], store, labels_may_wait=True)
    with pytest.raises(NotFound):
        manager.get(ModelSpec("m", label="canary"))
