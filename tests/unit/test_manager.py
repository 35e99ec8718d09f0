from collections.abc import Callable
from pathlib import Path

import pytest

from lambda_serving.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from lambda_serving.manager import Manager, State, VersionStatus
from lambda_serving.model_config import ModelConfig
from lambda_serving.model_spec import ModelSpec, ServableId
from lambda_serving.servable import Servable
from lambda_serving.version_policy import All


class _Store:
    """Versions by model; a version's folder is named after it."""

    def __init__(self, versions: dict[str, list[int]]) -> None:
        self._versions = versions

    def versions(self, name: str) -> list[int]:
        return self._versions[name]

    def contents(self, name: str) -> list[str]:
        return ["tmp", name]

    def fetch(self, servable: ServableId) -> Path:
        return Path(servable.name, str(servable.version))


def _loader(closed: list[Path], broken: dict[str, ServingError]) -> Callable[[Path], Servable]:
    def load(path: Path) -> Servable:
        if error := broken.get(str(path)):
            raise error
        return Servable({}, {}, definitions={}, close=lambda: closed.append(path))

    return load


@pytest.fixture
def closed() -> list[Path]:
    return []


def _manager(versions: dict[str, list[int]], closed: list[Path], **broken: ServingError) -> Manager:
    by_path = {name.replace("_", "/"): error for name, error in broken.items()}
    return Manager(_Store(versions), _loader(closed, by_path))


def test_serves_the_latest_of_what_the_policy_aspires(closed: list[Path]) -> None:
    manager = _manager({"m": [1, 2, 3]}, closed)
    manager.serve([ModelConfig("m", "/m", All())])
    assert manager.get(ModelSpec("m")).id == ServableId("m", 3)
    assert manager.get(ModelSpec("m", version=1)).id == ServableId("m", 1)
    assert [loaded.id.version for loaded in manager.models()["m"]] == [3, 2, 1]
    assert manager.statuses("m") == [VersionStatus(v, State.AVAILABLE) for v in (3, 2, 1)]


def test_labels_lead_to_their_versions(closed: list[Path]) -> None:
    manager = _manager({"m": [1, 2]}, closed)
    manager.serve([ModelConfig("m", "/m", All(), {"stable": 1})])
    assert manager.get(ModelSpec("m", label="stable")).id.version == 1
    with pytest.raises(InvalidArgument):
        manager.get(ModelSpec("m", label="canary"))


def test_label_of_a_version_that_is_not_loaded_fails_the_start(closed: list[Path]) -> None:
    manager = _manager({"m": [1]}, closed)
    model = ModelConfig("m", "/m", All(), {"canary": 2})
    with pytest.raises(FailedPrecondition, match="assign label canary to version 2 of model m"):
        manager.serve([model])
    manager.serve([model], labels_may_wait=True)
    with pytest.raises(NotFound, match=r"Specific\(m, 2\)"):
        manager.get(ModelSpec("m", label="canary"))


def test_one_failing_version_leaves_the_others_available(closed: list[Path]) -> None:
    broken = DataLoss("shard missing")
    manager = _manager({"m": [1, 2], "n": [1]}, closed, m_2=broken)
    with pytest.raises(Unavailable) as raised:
        manager.serve([ModelConfig("m", "/m", All()), ModelConfig("n", "/n")])
    assert str(raised.value) == (
        "1 servable(s) did not become available: {name: m version: 2} due to error: shard missing"
    )
    assert manager.statuses("m") == [
        VersionStatus(2, State.END, broken),
        VersionStatus(1, State.AVAILABLE),
    ]
    assert manager.get(ModelSpec("m")).id.version == 1
    assert manager.get(ModelSpec("n")).id.version == 1


def test_base_path_without_versions_is_told_with_the_expected_layout(closed: list[Path]) -> None:
    with pytest.raises(
        NotFound, match="No versions of servable m .* /m/1/saved_model.pb. There is: tmp, m$"
    ):
        _manager({"m": []}, closed).serve([ModelConfig("m", "/m")])


def test_is_ready_when_every_model_answers(closed: list[Path]) -> None:
    manager = _manager({"m": [1], "n": [1]}, closed, n_1=DataLoss("broken"))
    assert not manager.ready()
    manager.serve([ModelConfig("m", "/m")])
    assert manager.ready()
    with pytest.raises(Unavailable):
        manager.serve([ModelConfig("n", "/n")])
    assert not manager.ready()


def test_status_of_what_is_unknown_is_not_found(closed: list[Path]) -> None:
    manager = _manager({"m": [1]}, closed)
    manager.serve([ModelConfig("m", "/m")])
    with pytest.raises(NotFound, match="^Could not find any versions of model x$"):
        manager.statuses("x")
    with pytest.raises(NotFound, match="^Could not find version 9 of model m$"):
        manager.statuses("m", 9)


def test_close_unloads_every_version(closed: list[Path]) -> None:
    manager = _manager({"m": [1, 2]}, closed)
    manager.serve([ModelConfig("m", "/m", All())])
    manager.close()
    assert sorted(closed) == [Path("m/1"), Path("m/2")]
    assert manager.statuses("m") == [VersionStatus(2, State.END), VersionStatus(1, State.END)]
    with pytest.raises(NotFound):
        manager.get(ModelSpec("m"))
