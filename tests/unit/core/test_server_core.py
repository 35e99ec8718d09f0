import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager, State
from lambda_serving.core.server_core import ServerCore
from lambda_serving.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    Unavailable,
    Unknown,
)
from lambda_serving.model_spec import ModelSpec
from lambda_serving.store import Store
from support.memory_store import MemoryLoader, MemoryStore
from support.server_process import until

_M, _N = ModelConfig("m", "/m"), ModelConfig("n", "/n")


@dataclass
class _Server:
    """A server that started with model `m`, version 1 of it."""

    store: MemoryStore
    loader: MemoryLoader
    manager: Manager
    core: ServerCore

    def available(self) -> dict[str, list[int]]:
        return {
            name: [loaded.id.version for loaded in versions]
            for name, versions in self.manager.models().items()
            if versions
        }


@contextmanager
def _serving(settings: Settings) -> Iterator[_Server]:
    store, loader = MemoryStore({"m": [1], "n": [1]}), MemoryLoader()

    def open_store(_: Sequence[ModelConfig]) -> Store:
        return store

    manager = Manager(store, loader)
    manager.serve([_M])
    with ServerCore(manager, [_M], settings, open_store) as core:
        yield _Server(store, loader, manager, core)
    manager.close()


@pytest.fixture
def server() -> Iterator[_Server]:
    with _serving(Settings(file_system_poll_wait_seconds=0)) as server:
        yield server


def test_reload_waits_for_new_models(server: _Server) -> None:
    server.core.reload([_M, _N])
    assert server.available() == {"m": [1], "n": [1]}


def test_models_not_in_the_new_list_are_unloaded(server: _Server) -> None:
    server.core.reload([_N])
    until(lambda: server.available() == {"n": [1]})
    assert server.manager.ready()


def test_new_model_that_does_not_load_is_told_and_the_rest_serves(server: _Server) -> None:
    server.loader.broken["n/1"] = DataLoss("cut short")
    with pytest.raises(Unknown) as raised:
        server.core.reload([_M, _N])
    assert str(raised.value) == (
        "1 model(s) did not become available: {name: n version: 1} due to error: cut short"
    )
    assert server.manager.get(ModelSpec("m")).id.version == 1
    assert [each.state for each in server.manager.states.of("n")] == [State.LOADING]
    server.core.reload([_M, _N])  # it is not new any more
    assert not server.manager.ready()


@pytest.mark.parametrize(
    ("present", "problem"),
    [([], "No versions of servable n found"), (Unavailable("no such folder"), "no such folder")],
)
def test_new_model_without_versions_is_reported(
    server: _Server, present: list[int] | Unavailable, problem: str
) -> None:
    if isinstance(present, Unavailable):
        server.store.broken["n"] = present
    else:
        server.store.present["n"] = present
    with pytest.raises(Unknown, match=f"1 model.s. did not become available: {problem}"):
        server.core.reload([_M, _N])


def test_list_without_models_unloads_all_and_models_may_come_again(server: _Server) -> None:
    server.core.reload([])
    until(lambda: server.available() == {})
    assert not server.manager.ready()
    server.core.reload([_N])
    assert server.available() == {"n": [1]}
    assert server.manager.ready()


def test_model_cannot_change_its_platform(server: _Server) -> None:
    with pytest.raises(InvalidArgument, match="Illegal to change a model's platform"):
        server.core.reload([ModelConfig("m", "/m", platform="caffe")])
    with pytest.raises(InvalidArgument, match="Model n requests unsupported platform caffe"):
        server.core.reload([_M, ModelConfig("n", "/n", platform="caffe")])
    assert server.available() == {"m": [1]}


def test_list_that_is_refused_changes_nothing(server: _Server) -> None:
    with pytest.raises(InvalidArgument, match="multiple times"):
        server.core.reload([_N, _N])
    with pytest.raises(FailedPrecondition, match="assign label to version 2 of model m, which"):
        server.core.reload([ModelConfig("m", "/m", labels={"canary": 2}), _N])
    assert server.available() == {"m": [1]}
    assert server.manager.ready()


def test_versions_are_followed_while_inside() -> None:
    with _serving(Settings(file_system_poll_wait_seconds=1)) as server:
        server.store.present["m"] = [2]
        until(lambda: server.available() == {"m": [2]})


_CONFIG = """model_config_list {{
  config {{ name: "{}" base_path: "/x" model_platform: "tensorflow" }}
}}"""


def test_config_file_that_changed_is_reloaded(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(_CONFIG.format("n"))
    with _serving(Settings(model_config_file=str(path))) as server:
        server.core.read_config()
        assert server.manager.get(ModelSpec("n")).id.version == 1
        listed = server.store.listed.count("n")
        server.core.read_config()
        assert server.store.listed.count("n") <= listed + 1  # nothing but what polls look at


def test_config_file_that_lists_nothing_unloads_all_and_one_without_text_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "models.config"
    with _serving(Settings(model_config_file=str(path))) as server:
        path.write_text("")
        server.core.read_config()
        assert server.available() == {"m": [1]}
        assert caplog.messages[-1] == f"The config file {path} has no model_config_list"
        path.write_text("model_config_list { }")
        server.core.read_config()
        until(lambda: server.available() == {})
        path.write_text("")
        count = len(caplog.messages)
        server.core.read_config()
        assert caplog.messages[count:] == []


def test_server_that_began_without_models_takes_those_of_its_config_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, store = tmp_path / "models.config", MemoryStore({"n": [1]})
    path.touch()
    settings = Settings(model_config_file=str(path), model_config_file_poll_wait_seconds=1)
    manager = Manager(store, MemoryLoader())
    models = settings.models()
    manager.serve(models)
    with ServerCore(manager, models, settings, lambda _: store):
        path.write_text(_CONFIG.format("n"))
        until(manager.ready)
        assert manager.get(ModelSpec("n")).id.version == 1
    manager.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_bad_config_file_keeps_the_models_and_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "models.config"
    path.write_text("model_config_list {\n  config { nam: 'm' }\n}")
    with _serving(Settings(model_config_file=str(path))) as server:
        server.core.read_config()
        server.core.read_config()
        told = [message for message in caplog.messages if "models.config" in message]
        expected = (
            "Error parsing text-format tensorflow.serving.ModelServerConfig: The config file"
            f' {path} is not valid: 2:12 : Message type "tensorflow.serving.ModelConfig" has no'
            ' field named "nam".'
        )
        assert told == [expected]
        assert server.available() == {"m": [1]}
        path.write_text(_CONFIG.format("n"))
        server.core.read_config()
        assert server.manager.get(ModelSpec("n"))
