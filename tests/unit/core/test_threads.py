"""Each kind of thread that a server lives by goes on after an exception that nobody foresaw."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic

import numpy as np
import pytest

from lambda_serving.batching.parameters import BatchingParameters
from lambda_serving.batching.queue import Batch
from lambda_serving.batching.scheduler import Scheduler
from lambda_serving.call_record import OK, CallRecord
from lambda_serving.config.model_config import Logging, ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core import threads
from lambda_serving.core.basic_manager import Manager
from lambda_serving.core.server_core import ServerCore
from lambda_serving.model_spec import ServableId
from lambda_serving.monitoring.request_log import RequestLog
from lambda_serving.servables.servable import Servable
from lambda_serving.server.workers.frames import Frame, Kind
from lambda_serving.server.workers.worker import Worker
from lambda_serving.store import Store
from support.memory_store import MemoryStore
from support.server_process import until

_SECONDS = 300


class Unforeseen(Exception):
    """What no code of ours raises or catches by name."""


class _Trouble:
    """Raises the first time that something of each kind is done."""

    def __init__(self) -> None:
        self.came = set[str]()

    def at(self, kind: str) -> None:
        if kind not in self.came:
            self.came.add(kind)
            raise Unforeseen


def test_step_that_raises_is_called_again_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def step() -> bool:
        calls.append(len(calls))
        if len(calls) < 4:
            raise Unforeseen
        return len(calls) < 6

    threads.start("steps", step).join(_SECONDS)
    assert calls == [0, 1, 2, 3, 4, 5]
    [told] = caplog.records
    assert told.exc_info
    assert told.exc_info[0] is Unforeseen


def test_work_of_a_pool_that_raises_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as pool:
        threads.submit(pool, partial(_Trouble().at, "work"))
    [told] = caplog.records
    assert told.exc_info
    assert told.exc_info[0] is Unforeseen


class _Store(MemoryStore):
    def __init__(self, trouble: _Trouble) -> None:
        super().__init__({"m": [1], "n": [1]})
        self._trouble = trouble

    def versions(self, name: str) -> list[int]:
        self._trouble.at("source")
        return super().versions(name)

    def fingerprint(self, servable: ServableId) -> str:
        self._trouble.at("load")
        return super().fingerprint(servable)


class _Manager(Manager):
    def __init__(self, store: Store, trouble: _Trouble) -> None:
        super().__init__(store, self._loaded_by)
        self._trouble = trouble

    def unload(self, servable_id: ServableId, dropped: Callable[..., object]) -> None:
        self._trouble.at("manager")
        super().unload(servable_id, dropped)

    def _loaded_by(self, _: Path) -> Servable:
        return Servable({}, {}, definitions={}, close=partial(self._trouble.at, "unload"))


class _Server:
    """Serves version 1 of model `m` and follows its versions and a config file each second."""

    def __init__(self, config: Path) -> None:
        self.config, self.trouble = config, _Trouble()
        self.store = _Store(self.trouble)
        self.manager = _Manager(self.store, self.trouble)

    @contextmanager
    def running(self) -> Iterator[None]:
        models = [ModelConfig("m", "/m")]
        self.manager.configure(models, self.store)
        self.manager.load(ServableId("m", 1), self.manager.fetch(ServableId("m", 1)))
        settings = Settings(
            model_config_file=str(self.config),
            model_config_file_poll_wait_seconds=1,
            file_system_poll_wait_seconds=1,
            load_retry_interval_micros=0,
        )
        with ServerCore(self.manager, models, settings, self._open):
            yield
        self.manager.close()

    def has(self, name: str, *versions: int) -> bool:
        loaded = self.manager.models().get(name, [])
        return [each.id.version for each in loaded] == list(versions)

    def _open(self, _: Sequence[ModelConfig]) -> Store:
        self.trouble.at("config")
        return self.store


def _list(*names: str) -> str:
    entries = (
        f'config {{ name: "{name}" base_path: "/{name}" model_platform: "tensorflow" }}'
        for name in names
    )
    return f"model_config_list {{ {' '.join(entries)} }}"


def test_server_follows_versions_and_config_after_an_error_in_each_thread(tmp_path: Path) -> None:
    server = _Server(tmp_path / "models.config")
    server.config.write_text(_list("m"))
    with server.running():
        server.store.present["m"] = [2]
        until(lambda: server.has("m", 2))
        server.config.write_text(_list("m", "n"))
        until(lambda: server.has("n", 1))
        server.config.write_text(_list("n"))
        until(lambda: server.has("m"))
    assert server.trouble.came == {"source", "manager", "load", "unload", "config"}


def test_batching_thread_goes_on_and_the_request_gets_the_error() -> None:
    ran = Event()
    trouble = _Trouble()

    def run(batch: Batch) -> None:
        trouble.at("run")
        for task in batch.tasks:
            task.outputs.set_result([])
        ran.set()

    scheduler = Scheduler(1, "batches", monotonic)
    with closing(scheduler):
        lane = scheduler.lane(BatchingParameters(), run)
        [failed] = scheduler.put(lane, [np.zeros(1)], "kind", None)
        with pytest.raises(Unforeseen):
            failed.outputs.result(_SECONDS)
        [done] = scheduler.put(lane, [np.zeros(1)], "kind", None)
        assert done.outputs.result(_SECONDS) == []
        scheduler.close_lane(lane)
    assert ran.is_set()


def test_request_log_goes_on(tmp_path: Path) -> None:
    trouble, counted = _Trouble(), list[str]()

    def count(_: str, status: str) -> None:
        counted.append(status)
        trouble.at("count")

    with RequestLog(count) as log:
        log.configure([ModelConfig("m", "/m", logging=Logging(str(tmp_path / "log"), 1.0))])
        for _ in range(3):
            log(_record())
    assert counted == [OK] * 3
    [file] = tmp_path.iterdir()
    assert file.stat().st_size


def _record() -> CallRecord:
    return CallRecord("GRPC", api="Predict", model="m", version=1)


def test_worker_goes_on_following_its_parent(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    ended = list[int]()
    with closing(theirs), closing(ours), ours.makefile("rb") as parent:
        frames = [
            Frame(Kind.START, payload=json.dumps(asdict(Settings())).encode()),
            Frame(Kind.ANSWERS, number=7),  # nothing was asked
            Frame(Kind.CALL, 1, "no such topic"),
            Frame(Kind.CALL, 2, "echo", b"x"),
        ]
        worker = Worker(theirs, [], 0, end=ended.append)
        worker.answer("echo", lambda payload: payload)
        ours.sendall(b"".join(map(bytes, frames)))
        worker.start()
        replies = [Frame.read_from(parent), Frame.read_from(parent)]
        ours.shutdown(socket.SHUT_WR)
        until(lambda: ended)
    assert {frame.number: frame.payload for frame in replies if frame} == {1: b"", 2: b"x"}
    assert ended == [1]
    assert "Thread parent goes on after an unexpected error" in caplog.messages
