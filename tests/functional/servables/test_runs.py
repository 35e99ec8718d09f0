"""Runs that never end, or that take longer for some values than for others."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rpc.services import Circumstances, Services
from lambda_serving.batching import Batcher, BatchingParameters, Report
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import Cancelled, DeadlineExceeded, InvalidArgument
from lambda_serving.servables import saved_model
from lambda_serving.servables.cancellation import Cancellation
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.tensorflow_c.stopping_runs import Places
from lambda_serving.store import LocalStore
from support.graphs import add, constants, graph, save
from support.grpc_web import frame
from support.rpc_client import call, free_port, message, path_of, predict_request
from support.server_process import running, until

_SECONDS = 300
_FOREVER = 2**63 - 1
_MANY = 3 * (os.cpu_count() or 1)
_PLACES = Places.count
_CANCELLED, _DEADLINE_EXCEEDED = 1, 4


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that waits for a queue that nobody fills, and would add its value to `x`."""
    made = graph()
    add(made, "Placeholder", "x", dtype=DType.INT64)
    add(made, "FIFOQueueV2", "queue").attr["component_types"].list.type.append(DType.INT64)
    taken = add(made, "QueueDequeueV2", "taken", "queue")
    taken.attr["component_types"].list.type.append(DType.INT64)
    add(made, "AddV2", "y", "x", "taken", T=DType.INT64)
    folder = tmp_path_factory.mktemp("queue") / "1"
    save(made, folder, inputs={"x": ("x:0", DType.INT64)}, outputs={"y": ("y:0", DType.INT64)})
    return folder


@pytest.fixture(params=["while_loop", "queue"])
def endless(request: pytest.FixtureRequest, models_dir: Path, queue: Path) -> Iterator[Servable]:
    folder = queue if request.param == "queue" else models_dir / "while_loop" / "1"
    with saved_model.load(folder) as servable:
        yield servable


@pytest.fixture
def loop(models_dir: Path) -> Iterator[Servable]:
    with saved_model.load(models_dir / "while_loop" / "1") as servable:
        yield servable


def _x(*values: int) -> dict[str, Array]:
    return {"x": np.array(values, np.int64)}


class _Endless:
    """A run that does not end by itself, in a thread."""

    def __init__(self, servable: Servable, pool: ThreadPoolExecutor, timeout_ms: int = 0) -> None:
        self.cancellation = Cancellation()
        self.ended: Future[Any] = pool.submit(
            self.cancellation.run,
            lambda: servable.run("", _x(_FOREVER), timeout_ms=timeout_ms),
        )
        until(lambda: self.cancellation.is_at_work or self.ended.done())
        assert not self.ended.done()


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * _MANY + 2 * _PLACES) as pool:
        yield pool


def test_cancelled_run_ends(endless: Servable) -> None:
    with _threads() as pool:
        run = _Endless(endless, pool)
        run.cancellation.cancel()
        assert isinstance(run.ended.exception(_SECONDS), Cancelled)


def test_only_the_cancelled_run_ends(endless: Servable) -> None:
    with _threads() as pool:
        first, second = (_Endless(endless, pool) for _ in range(2))
        first.cancellation.cancel()
        assert isinstance(first.ended.exception(_SECONDS), Cancelled)
        assert not second.ended.done()
        second.cancellation.cancel()
        assert isinstance(second.ended.exception(_SECONDS), Cancelled)


def test_run_that_is_cancelled_before_it_begins_does_not_begin(endless: Servable) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        cancellation.run(lambda: endless.run("", _x(_FOREVER)))


def test_runs_after_cancelled_failed_and_late_ones_are_as_before(loop: Servable) -> None:
    def answer() -> object:
        return loop.run("", _x(5, 100))["y"].tolist()

    with _threads() as pool:
        for _ in range(_PLACES + 2):
            run = _Endless(loop, pool)
            run.cancellation.cancel()
            assert isinstance(run.ended.exception(_SECONDS), Cancelled)
            with pytest.raises(InvalidArgument):
                loop.run("", {"x": np.array([1.5], np.float32)})
            with pytest.raises(DeadlineExceeded):
                loop.run("", _x(_FOREVER), timeout_ms=20)
            assert answer() == [8, 128]


def test_cancelled_at_any_moment_a_run_answers_or_is_cancelled(loop: Servable) -> None:
    with _threads() as pool:
        for _ in range(100):
            cancellation = Cancellation()
            ended = pool.submit(cancellation.run, lambda: loop.run("", _x(5, 100)))
            cancellation.cancel()
            if error := ended.exception(_SECONDS):
                assert isinstance(error, Cancelled)
            else:
                assert ended.result()["y"].tolist() == [8, 128]
        assert loop.run("", _x(5, 100))["y"].tolist() == [8, 128]


def test_run_that_waits_for_others_is_bounded_and_cancelled_all_the_same(loop: Servable) -> None:
    with _threads() as pool:
        runs = [_Endless(loop, pool) for _ in range(_PLACES)]
        with pytest.raises(DeadlineExceeded):
            loop.run("", _x(5), timeout_ms=20)
        cancellation = Cancellation()
        waiting = pool.submit(cancellation.run, lambda: loop.run("", _x(5)))
        cancellation.cancel()
        assert isinstance(waiting.exception(_SECONDS), Cancelled)
        for run in runs:
            run.cancellation.cancel()
        assert {type(run.ended.exception(_SECONDS)) for run in runs} == {Cancelled}
        assert loop.run("", _x(5))["y"].tolist() == [8]


def test_loops_leave_tensorflows_threads_to_other_models(loop: Servable, models_dir: Path) -> None:
    with _threads() as pool, saved_model.load(models_dir / "counter" / "1") as other:
        loops = [_Endless(loop, pool) for _ in range(_MANY)]
        inputs = {"x": np.ones(1, np.float32)}
        assert not other.is_quick("", inputs)  # or it would need none of these threads
        answer = pool.submit(other.run, "", inputs)
        assert "y" in answer.result(_SECONDS)
        assert not any(each.ended.done() for each in loops)
        for each in loops:
            each.cancellation.cancel()
        assert {type(each.ended.exception(_SECONDS)) for each in loops} == {Cancelled}


def test_joined_run_ends_when_nobody_waits_for_it_any_more(models_dir: Path) -> None:
    parameters = BatchingParameters(num_batch_threads=1, batch_timeout_micros=1000)
    reports: list[Report] = []
    with (
        Batcher(parameters, report=reports.append) as batcher,
        saved_model.load(models_dir / "while_loop" / "1", wrap=batcher.joined) as servable,
    ):
        first = servable.submit("", _x(_FOREVER))
        assert first
        until(lambda: reports)
        second = servable.submit("", _x(5))
        assert second
        first.cancel()
        assert second.result(_SECONDS)[0].tolist() == [8]


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Manager:
    """Models that wait for a queue that nobody fills; one has an output that does not."""
    folder = tmp_path_factory.mktemp("waiting")
    for name, given, dtype in (
        ("regressor", "inputs", DType.STRING),
        ("filtered", "x", DType.INT64),
    ):
        made = graph()
        add(made, "Placeholder", "x", dtype=dtype)
        add(made, "FIFOQueueV2", "queue").attr["component_types"].list.type.append(DType.FLOAT)
        taken = add(made, "QueueDequeueV2", "taken", "queue")
        taken.attr["component_types"].list.type.append(DType.FLOAT)
        add(made, "Identity", "same", "x", T=dtype)
        outputs = {"outputs": ("taken:0", DType.FLOAT)}
        if name == "filtered":
            outputs["same"] = ("same:0", dtype)
        save(made, folder / name / "1", inputs={given: ("x:0", dtype)}, outputs=outputs)
    models = [ModelConfig(name, str(folder / name)) for name in ("regressor", "filtered")]
    store = LocalStore({model.name: model.base_path for model in models})
    manager = Manager(store, saved_model.load)
    manager.serve(models)
    return manager


def _filtered(output: str) -> Any:
    request = predict_request("filtered", _x(1))
    request.output_filter.append(output)
    return request


def _multi_inference() -> Any:
    task = {"modelSpec": {"name": "regressor"}, "methodName": "tensorflow/serving/regress"}
    examples: Any = {"exampleList": {"examples": [{"features": {}}]}}
    return message("MultiInferenceRequest", {"tasks": [task], "input": examples})


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize(("timeout_ms", "code"), [(0, _CANCELLED), (50, _DEADLINE_EXCEEDED)])
@pytest.mark.parametrize(
    ("method", "request_"),
    [("MultiInference", _multi_inference()), ("Predict", _filtered("outputs"))],
)
def test_call_that_is_cancelled_or_late_gives_its_thread_back(
    waiting: Manager, method: str, request_: Any, timeout_ms: int, code: int, *, batching: bool
) -> None:
    settings = Settings(grpc_timeout_in_ms=timeout_ms, enable_batching=batching)

    async def main(threads: Threads) -> None:
        services = Services(waiting, settings, threads)
        gone = asyncio.Event()
        how = Circumstances(gone=gone.wait)
        body = request_.SerializeToString()
        calling = asyncio.create_task(services.answer(path_of(method), body, how))
        await asyncio.to_thread(until, lambda: threads.stuck() or calling.done())
        if not timeout_ms:
            gone.set()
        assert (await calling).code == code
        await asyncio.to_thread(until, lambda: not threads.stuck())  # the run has ended
        answer = await services.answer(path_of("Predict"), _filtered("same").SerializeToString())
        assert answer.code == 0

    with Threads(1, "test", stuck_seconds=0) as threads:
        asyncio.run(main(threads))


def test_run_whose_cost_depends_on_a_value_is_never_taken_for_quick(tmp_path: Path) -> None:
    made = graph()
    constants(made, axis=np.array([0, 1], np.int32), one=1.0)
    add(made, "Placeholder", "x", dtype=DType.INT64)
    add(made, "Fill", "ones", "x", "one", T=DType.FLOAT, index_type=DType.INT64)
    add(made, "MatMul", "product", "ones", "ones", T=DType.FLOAT)
    add(made, "Sum", "y", "product", "axis", T=DType.FLOAT, Tidx=DType.INT32)
    save(
        made,
        tmp_path / "1",
        inputs={"x": ("x:0", DType.INT64)},
        outputs={"y": ("y:0", DType.FLOAT)},
    )
    with saved_model.load(tmp_path / "1") as servable:
        for _ in range(20):
            assert servable.run("", _x(2, 2))["y"] == 8
        assert not servable.is_quick("", _x(2, 2))


@contextmanager
def _looping(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A client of the REST API whose request does not end."""
    body = b'{"instances": [%d]}' % _FOREVER
    head = b"POST /v1/models/loop:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with closing(socket.create_connection(address)) as client:
        client.sendall(head % len(body) + body)
        yield client


def _taken(url: str) -> bool:
    """Whether the model holds all threads that it may take: another call does not run."""
    try:
        httpx.post(f"{url}/v1/models/loop:predict", json={"instances": [3]}, timeout=0.5)
    except httpx.TimeoutException:
        return True
    return False


def _config(folder: Path, models_dir: Path) -> Path:
    models = {"loop": "while_loop", "half": "half_plus_two"}
    platform = "model_platform: 'tensorflow'"
    configs = [
        f"config {{ name: '{name}' base_path: '{models_dir / model}' {platform} }}"
        for name, model in models.items()
    ]
    path = folder / "models.config"
    path.write_text(f"model_config_list {{ {' '.join(configs)} }}")
    return path


@pytest.mark.parametrize("flags", [(), ("--enable_batching",)], ids=["alone", "batching"])
def test_endless_runs_take_nothing_from_other_models_and_end_with_their_clients(
    models_dir: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    port = free_port()
    bounds = (
        "--rest_api_timeout_in_ms=0",
        "--grpc_timeout_in_ms=0",
        "--drain_seconds=1",
        "--client_timeout_seconds=1",
    )
    threads = ("--rest_api_num_threads=4", "--grpc_max_threads=4")
    config = f"--model_config_file={_config(tmp_path, models_dir)}"
    with (
        running(f"--port={port}", config, *bounds, *threads, *flags) as (url, process),
        grpc.insecure_channel(f"localhost:{port}") as channel,
        ExitStack() as clients,
    ):
        address = (httpx.URL(url).host, httpx.URL(url).port or 0)
        for _ in range(4):
            clients.enter_context(_looping(address))
        method: Any = channel.unary_unary(path_of("Predict"))
        endless = predict_request("loop", _x(_FOREVER)).SerializeToString()
        calls = [method.future(endless) for _ in range(4)]
        _others_answer(url, channel)
        assert not any(each.done() for each in calls)

        clients.close()
        for each in calls:
            each.cancel()
        answer = httpx.post(
            f"{url}/v1/models/loop:predict", json={"instances": [3]}, timeout=_SECONDS
        )
        assert answer.json() == {"predictions": [4]}
        assert call(channel, "Predict", predict_request("loop", _x(3)), timeout=_SECONDS).outputs

        with _looping(address):
            method.future(endless)
            process.send_signal(signal.SIGTERM)
            assert process.wait(_SECONDS) in {0, 1}  # 0 if the run had not begun


def _others_answer(url: str, channel: grpc.Channel) -> None:
    half = httpx.post(f"{url}/v1/models/half:predict", json={"instances": [1.0]}, timeout=_SECONDS)
    assert half.json() == {"predictions": [2.5]}
    request = predict_request("half", {"x": [1]})
    assert call(channel, "Predict", request, timeout=_SECONDS).outputs
    web = httpx.post(
        f"{url}{path_of('Predict')}",
        content=frame(request.SerializeToString()),
        headers={"content-type": "application/grpc-web"},
        timeout=_SECONDS,
    )
    assert b"grpc-status:0" in web.content
    for page in ("/healthz", "/v1/models/loop", "/v1/models/half/metadata"):
        assert httpx.get(url + page, timeout=_SECONDS).status_code == 200
