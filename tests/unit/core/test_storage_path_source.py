from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import All, Specific
from lambda_serving.core.storage_path_source import Source, Waits
from lambda_serving.errors import Unavailable
from lambda_serving.model_spec import ServableId
from support.memory_store import MemoryStore

_M, _N = ModelConfig("m", "/models/m"), ModelConfig("n", "/models/n")


@dataclass
class _Looking:
    """A source over models `m` and `n`, what it aspires to, and its clock."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore({"m": [1, 2], "n": [7]}))
    now: float = 0
    aspired: dict[str, list[int]] = field(default_factory=dict)

    def source(self, *models: ModelConfig, reloads: bool = False) -> Source:
        source = Source(self._aspire, Waits(1, 30), clock=lambda: self.now, reloads=reloads)
        source.configure(models, self.store)
        return source

    def _aspire(self, name: str, versions: Collection[int]) -> None:
        self.aspired[name] = list(versions)


@pytest.fixture
def looking() -> _Looking:
    return _Looking()


def test_aspires_to_what_the_policies_choose(looking: _Looking) -> None:
    looking.source(ModelConfig("m", "/m", All()), _N).poll()
    assert looking.aspired == {"m": [2, 1], "n": [7]}


def test_looks_again_when_it_is_time(looking: _Looking) -> None:
    source = looking.source(_M)
    assert source.poll() == 1
    looking.store.present["m"] = [3]
    looking.now = 0.75
    assert source.poll() == 0.25
    assert looking.aspired == {"m": [2]}
    looking.now = 1
    assert source.poll() == 1
    assert looking.aspired == {"m": [3]}


def test_buckets_are_looked_at_less_often(looking: _Looking) -> None:
    source = looking.source(_M, ModelConfig("n", "s3://bucket/n"))
    for looking.now in range(31):
        source.poll()
    assert looking.store.listed.count("m") == 31
    assert looking.store.listed.count("n") == 2


@pytest.mark.parametrize(("folder", "bucket", "waits"), [(1, 30, 30), (60, 30, 60), (5, 1, 5)])
def test_the_longer_wait_counts_for_buckets(folder: int, bucket: int, waits: int) -> None:
    assert Waits(folder, bucket).after("s3://bucket/m") == waits
    assert Waits(folder, bucket).after("/models/m") == folder


def test_unreadable_base_path_changes_nothing_for_its_model_alone(
    looking: _Looking, caplog: pytest.LogCaptureFixture
) -> None:
    source = looking.source(_M, _N)
    source.poll()
    looking.store.broken["m"] = Unavailable("Could not read /models/m")
    looking.store.present["n"] = [8]
    for looking.now in (1, 2, 3):
        source.poll()
    assert looking.aspired == {"m": [2], "n": [8]}
    assert caplog.messages == ["Could not read /models/m. Its versions stay as they are"]


def test_trouble_is_told_again_when_its_reason_changes_or_comes_back(
    looking: _Looking, caplog: pytest.LogCaptureFixture
) -> None:
    source = looking.source(_M)
    for looking.now, reason in enumerate(("gone", "gone", "forbidden", "", "gone")):
        looking.store.broken = {"m": Unavailable(reason)} if reason else {}
        source.poll()
    assert [message.partition(".")[0] for message in caplog.messages] == [
        "gone",
        "forbidden",
        "gone",
    ]


def test_unforeseen_error_is_logged_and_other_models_go_on(
    looking: _Looking, caplog: pytest.LogCaptureFixture
) -> None:
    looking.store.broken["m"] = ValueError("odd")
    looking.source(_M, _N).poll()
    assert looking.aspired == {"n": [7]}
    assert "ValueError: odd" in caplog.text


def test_empty_base_path_aspires_to_nothing_and_says_so_once(
    looking: _Looking, caplog: pytest.LogCaptureFixture
) -> None:
    looking.store.present["m"] = []
    source = looking.source(_M)
    for looking.now in (0, 1, 2):
        source.poll()
    assert looking.aspired == {"m": []}
    [said] = caplog.messages
    assert said.startswith("No versions of servable m found under base path /models/m.")
    assert source.problem("m") == said


def test_specific_versions_that_are_there_are_aspired(looking: _Looking) -> None:
    looking.source(ModelConfig("m", "/m", Specific(frozenset({2, 9})))).poll()
    assert looking.aspired == {"m": [2]}


def test_model_that_is_not_configured_any_more_is_aspired_to_nothing(looking: _Looking) -> None:
    source = looking.source(_M, _N)
    source.poll()
    source.configure([ModelConfig("m", "/elsewhere", All())], MemoryStore({"m": [5, 4]}))
    assert looking.aspired == {"m": [2], "n": []}
    source.poll()
    assert looking.aspired == {"m": [5, 4], "n": []}


def test_look_that_began_before_a_new_configuration_does_not_count(looking: _Looking) -> None:
    class Slow(MemoryStore):
        def versions(self, name: str) -> list[int]:
            source.configure([_N], looking.store)
            return super().versions(name)

    looking.store = Slow({"m": [1], "n": [7]})
    source = looking.source(_M)
    source.poll()
    assert looking.aspired == {"m": []}


def test_version_whose_files_changed_is_left_out_once(looking: _Looking) -> None:
    """Once they have been stable for a poll: then it is unloaded, and with the next poll loaded."""
    source = looking.source(ModelConfig("m", "/m", All()), reloads=True)
    seen = list[list[int]]()
    for looking.now, files in enumerate(["a", "a", "b", "c", "c", "c", "c"]):
        looking.store.fingerprints[ServableId("m", 2)] = files
        source.poll()
        seen.append(looking.aspired["m"])
    assert seen == [[2, 1]] * 4 + [[1]] + [[2, 1]] * 2


def test_files_of_a_version_that_comes_back_are_new(looking: _Looking) -> None:
    source = looking.source(_M, reloads=True)
    for looking.now, (versions, files) in enumerate(
        [([2], "a"), ([1], ""), ([2], "b"), ([2], "b")]
    ):
        looking.store.present["m"] = versions
        looking.store.fingerprints[ServableId("m", 2)] = files
        source.poll()
        assert looking.aspired["m"] == versions


def test_changed_files_mean_nothing_unless_that_is_asked_for(looking: _Looking) -> None:
    source = looking.source(_M)
    for looking.now in range(4):
        looking.store.fingerprints[ServableId("m", 2)] = "a" if looking.now < 2 else "b"
        source.poll()
        assert looking.aspired["m"] == [2]
