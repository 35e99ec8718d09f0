"""Joined requests by gRPC, beside those by REST, and while versions change."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
from starlette.types import ASGIApp

from lambda_serving import protos
from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import create_app
from lambda_serving.api.rpc.grpc_server import serving
from lambda_serving.batching import Batcher, BatchingParameters, Report
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.servables import saved_model
from lambda_serving.store import LocalStore
from support.load import steady
from support.rpc_client import arrays, call, free_port, path_of, predict_request
from support.server_process import running, until

_MINUTE = 60_000_000


class _Both:
    """Model `positive` by REST and by gRPC, its runs joined."""

    def __init__(self, app: ASGIApp, channel: grpc.Channel, reports: list[Report]) -> None:
        self.app, self.channel, self.reports = app, channel, reports

    def send(self, *values: float, timeout: float = 300) -> Any:
        """A call by gRPC; its answer is to come."""
        response = protos.message("tensorflow.serving.PredictResponse")
        method: Any = self.channel.unary_unary(path_of("Predict"), None, response.FromString)
        body = predict_request("positive", {"x": values}).SerializeToString()
        return method.future(body, timeout=timeout)

    def post(self, values: Sequence[float]) -> list[httpx.Response]:
        """The answers to requests by REST that are all sent before one is answered."""
        return asyncio.run(self._post(values))

    async def _post(self, values: Sequence[float]) -> list[httpx.Response]:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            path = "/v1/models/positive:predict"
            sent = [client.post(path, json={"instances": [value]}) for value in values]
            return await asyncio.gather(*sent)


@contextmanager
def _both(models_dir: Path, folder: Path, **parameters: Any) -> Iterator[_Both]:
    known = BatchingParameters(num_batch_threads=2, batch_timeout_micros=_MINUTE, **parameters)
    reports: list[Report] = []
    model = ModelConfig("positive", str(models_dir / "positive"))
    settings = Settings(
        port=0, grpc_socket_path=str(folder / "s"), enable_batching=True, grpc_max_threads=2
    )
    with Threads(2, "predict") as threads, Batcher(known, report=reports.append) as batcher:
        load = partial(saved_model.load, wrap=batcher.joined)
        manager = Manager(LocalStore({model.name: model.base_path}), load)
        manager.serve([model])
        app = create_app(manager, Settings(enable_batching=True), threads)
        with (
            serving(manager, settings),
            grpc.insecure_channel(f"unix:{settings.grpc_socket_path}") as channel,
        ):
            yield _Both(app, channel, reports)
        manager.close()


def test_calls_of_more_clients_than_threads_become_one_run(
    models_dir: Path, tmp_path: Path
) -> None:
    with _both(models_dir, tmp_path, max_batch_size=64) as both:
        sent = [both.send(float(i + 1)) for i in range(64)]
        answers = [arrays(each.result()) for each in sent]
    assert [each.sizes for each in both.reports] == [(1,) * 64]
    assert [array.shape for each in answers for array in each.values()] == [(1,)] * 64


def test_bad_request_among_good_ones_by_both_ways_fails_alone(
    models_dir: Path, tmp_path: Path
) -> None:
    with _both(models_dir, tmp_path, max_batch_size=64) as both:
        sent = [both.send(float(i + 1)) for i in range(31)] + [both.send(-1.0)]
        posted = both.post([*(float(i + 1) for i in range(31)), -2.0])
        codes = [each.code() for each in sent]
    assert codes == [grpc.StatusCode.OK] * 31 + [grpc.StatusCode.INVALID_ARGUMENT]
    assert [each.status_code for each in posted] == [200] * 31 + [400]
    assert both.reports[0].sizes == (1,) * 64


def test_call_that_finds_the_queue_full_is_unavailable_and_those_in_it_are_served(
    models_dir: Path, tmp_path: Path
) -> None:
    with _both(models_dir, tmp_path, max_batch_size=4, max_enqueued_batches=1) as both:
        sent = [both.send(1.0, 2.0, 3.0) for _ in range(3)]
        until(lambda: sum(each.done() for each in sent) == 2)
        [waiting], refused = (
            [each for each in sent if each.done() is end] for end in (False, True)
        )
        last = both.send(4.0)
        assert [each.code() for each in (waiting, last)] == [grpc.StatusCode.OK] * 2
    for each in refused:
        assert (each.code(), each.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            (
                "The batch scheduling queue to which this task was submitted is full; currently 1"
                " batches enqueued and max_enqueued_batches is 1"
            ),
        )
    assert [each.sizes for each in both.reports] == [(3, 1)]


def test_deadline_that_passes_and_client_that_goes_hurt_no_neighbour(
    models_dir: Path, tmp_path: Path
) -> None:
    with _both(models_dir, tmp_path, max_batch_size=4) as both:
        late, gone = both.send(1.0, timeout=0.5), both.send(2.0)
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gone.cancel()
        kept = [both.send(3.0), both.send(4.0)]
        assert [each.code() for each in kept] == [grpc.StatusCode.OK] * 2


def test_no_joined_request_fails_while_versions_and_their_runtimes_change(
    models_dir: Path, litert_dir: Path, tmp_path: Path
) -> None:
    tensorflow, litert = models_dir / "two_versions", litert_dir / "two_versions"
    base_path = tmp_path / "m"
    shutil.copytree(tensorflow / "1", base_path / "1")
    later = (tensorflow / "2", litert / "1", litert / "2", tensorflow / "1")
    parameters = tmp_path / "batching"
    parameters.write_text("batch_timeout_micros { value: 3000 } max_batch_size { value: 8 }")
    port, stop = free_port(), Event()
    flags = ("--model_name=m", f"--model_base_path={base_path}", f"--port={port}")
    batching = ("--enable_batching", f"--batching_parameters_file={parameters}")
    with running(*flags, *batching) as (url, _), ThreadPoolExecutor(4) as pool:

        def serves(version: int) -> bool:
            answer = httpx.get(f"{url}/v1/models/m/versions/{version}").json()
            return "AVAILABLE" in str(answer)

        calls = [pool.submit(_call_until, stop, port) for _ in range(4)]
        http = urlsplit(url).port
        assert http
        try:
            with steady(http, "/v1/models/m:predict", b'{"instances": [2.0]}', 200) as load:
                for number, source in enumerate(later, 2):
                    new = tmp_path / "new"
                    shutil.copytree(source, new)
                    new.rename(base_path / str(number))
                    until(lambda number=number: serves(number))  # type: ignore[misc]
                    until(lambda number=number: not serves(number - 1))  # type: ignore[misc]
        finally:
            stop.set()
        assert load.failures() == []
        assert all(each.result() for each in calls)


def _call_until(stop: Event, port: int) -> int:
    """How many calls were answered; raises for one that failed."""
    count = 0
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        while not stop.is_set():
            call(channel, "Predict", predict_request("m", {"x": [2]}))
            count += 1
    return count
