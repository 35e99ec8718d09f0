"""Joined requests over real models: the application in process, and the server."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import create_app
from lambda_serving.batching import Batcher, BatchingParameters, Report
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import ServingError
from lambda_serving.servables import saved_model
from lambda_serving.store import LocalStore
from support.server_process import running

_MINUTE = 60_000_000
Request = tuple[str, dict[str, Any]]
"""The end of a path and a body."""


class _Service:
    """An application over some models, its batches run by two threads, and what ran."""

    def __init__(self, manager: Manager, timeout_ms: int, threads: Threads) -> None:
        settings = Settings(enable_batching=True, rest_api_timeout_in_ms=timeout_ms)
        self.app = create_app(manager, settings, threads)
        self.reports: list[Report] = []

    def ask(self, *requests: Request) -> list[httpx.Response]:
        """The answers to requests that are all sent before one is answered."""
        return asyncio.run(self._ask(requests))

    async def _ask(self, requests: Sequence[Request]) -> list[httpx.Response]:
        async with self.client() as client:
            sent = [client.post(f"/v1/models/{path}", json=body) for path, body in requests]
            return await asyncio.gather(*sent)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client


@contextmanager
def _service(
    models_dir: Path, *names: str, timeout_ms: int = 30_000, **parameters: Any
) -> Iterator[_Service]:
    known = BatchingParameters(num_batch_threads=2, **parameters)
    reports: list[Report] = []
    models = [ModelConfig(name, str(models_dir / name)) for name in names]
    with (
        Threads(2, "predict") as threads,
        Batcher(known, report=reports.append) as batcher,
    ):
        load = partial(saved_model.load, cache=models_dir.parent, wrap=batcher.joined)
        manager = Manager(LocalStore({each.name: each.base_path for each in models}), load)
        manager.serve(models)
        service = _Service(manager, timeout_ms, threads)
        service.reports = reports
        yield service
        manager.close()


def _row(value: float) -> Request:
    return "half_plus_two:predict", {"instances": [value]}


def _rows(answers: Sequence[httpx.Response]) -> list[Any]:
    assert {each.status_code for each in answers} == {200}
    return [each.json()["predictions"] for each in answers]


def test_requests_of_more_clients_than_threads_become_one_run(runtime_dir: Path) -> None:
    with _service(
        runtime_dir, "half_plus_two", max_batch_size=64, batch_timeout_micros=_MINUTE
    ) as service:
        answers = service.ask(*(_row(float(i)) for i in range(64)))
    assert _rows(answers) == [[i / 2 + 2] for i in range(64)]
    assert [(each.sizes, each.size) for each in service.reports] == [((1,) * 64, 64)]


def test_single_request_does_not_wait(models_dir: Path) -> None:
    with _service(models_dir, "half_plus_two") as service:
        assert _rows(service.ask(_row(2.0))) == [[3.0]]


def test_large_bodies_and_answers_are_joined_too(runtime_dir: Path) -> None:
    with _service(
        runtime_dir, "half_plus_two", max_batch_size=20_000, batch_timeout_micros=_MINUTE
    ) as service:
        values = [float(i) for i in range(10_000)]
        answers = service.ask(*[("half_plus_two:predict", {"instances": values})] * 2)
    assert _rows(answers) == [[i / 2 + 2 for i in values]] * 2
    assert [each.sizes for each in service.reports] == [(10_000, 10_000)]


@pytest.mark.parametrize(
    ("verb", "name"), [("classify", "serving_default"), ("regress", "regress")]
)
def test_examples_are_joined(models_dir: Path, verb: str, name: str) -> None:
    request = (f"examples:{verb}", {"signature_name": name, "examples": [{"age": 3}]})
    with _service(models_dir, "examples") as service:
        (alone,) = service.ask(request)
    with _service(
        models_dir, "examples", max_batch_size=3, batch_timeout_micros=_MINUTE
    ) as service:
        answers = service.ask(request, request, request)
    assert alone.status_code == 200
    assert [each.text for each in answers] == [alone.text] * 3
    assert [each.sizes for each in service.reports] == [(1, 1, 1)]


@pytest.mark.parametrize(
    ("folder", "model", "rows"),
    [
        ("models_dir", "positive", [1.0, -2.0, 3.0, 4.0]),
        ("litert_dir", "gather", [{"x": [0.0] * 4, "i": i} for i in (0, 9, 0, 0)]),
    ],
)
def test_bad_neighbour_fails_alone_and_as_it_would_have_alone(
    request: pytest.FixtureRequest, folder: str, model: str, rows: list[Any]
) -> None:
    models: Path = request.getfixturevalue(folder)
    requests = [(f"{model}:predict", {"instances": [row]}) for row in rows]
    with _service(models, model) as service:
        alone = [service.ask(each)[0] for each in requests]
    with _service(models, model, max_batch_size=4, batch_timeout_micros=_MINUTE) as service:
        joined = service.ask(*requests)
    assert [each.status_code for each in joined] == [200, 400, 200, 200]
    assert [each.json() for each in joined] == [each.json() for each in alone]
    assert service.reports[0].sizes == (1, 1, 1, 1)


def test_signature_of_a_fixed_batch_is_served_as_without_batching(runtime_dir: Path) -> None:
    body = {"instances": [[[1.0, 2.0], [3.0, 4.0]]] * 5}
    name = "keras3_sequential_fixed_batch"
    with _service(runtime_dir, name, batch_timeout_micros=_MINUTE) as service:
        (answer,) = service.ask((f"{name}:predict", body))
    assert answer.json() == {"predictions": [[11.0, 11.0]] * 5}
    assert not service.reports


def test_signature_whose_outputs_have_no_rows_answers_everybody(runtime_dir: Path) -> None:
    body = {"signature_name": "scalar", "inputs": [1.0, 2.0]}
    with _service(runtime_dir, "shapes", max_batch_size=4, batch_timeout_micros=_MINUTE) as service:
        answers = service.ask(("shapes:predict", body), ("shapes:predict", body))
        (later,) = service.ask(("shapes:predict", body))
    assert [each.json() for each in (*answers, later)] == [{"outputs": 3.0}] * 3


def test_full_queue_is_503_and_those_in_it_are_served(models_dir: Path) -> None:
    with _service(
        models_dir,
        "half_plus_two",
        max_batch_size=2,
        max_enqueued_batches=1,
        batch_timeout_micros=_MINUTE,
    ) as service:
        two = ("half_plus_two:predict", {"instances": [2.0, 4.0]})
        first, refused, second = service.ask(_row(2.0), two, _row(4.0))
    assert (refused.status_code, refused.json()) == (
        503,
        {
            "error": "The batch scheduling queue to which this task was submitted is full;"
            " currently 1 batches enqueued and max_enqueued_batches is 1"
        },
    )
    assert _rows([first, second]) == [[3.0], [4.0]]


def test_request_over_the_batch_size_is_400(models_dir: Path) -> None:
    with _service(models_dir, "half_plus_two", max_batch_size=2) as service:
        (answer,) = service.ask(("half_plus_two:predict", {"instances": [1.0, 2.0, 3.0]}))
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "Task size 3 is larger than maximum input batch size 2"},
    )


def test_deadline_in_the_queue_is_504(models_dir: Path) -> None:
    with _service(
        models_dir, "half_plus_two", timeout_ms=10, batch_timeout_micros=50_000
    ) as service:
        (answer,) = service.ask(_row(1.0))
    assert (answer.status_code, answer.json()) == (
        504,
        {"error": "Run() timeout exceeded while waiting in batching queue"},
    )


def test_warm_up_runs_in_batches_of_allowed_sizes(models_dir: Path) -> None:
    with _service(models_dir, "warmed", max_batch_size=16, allowed_batch_sizes=(16,)) as service:
        assert {each.size for each in service.reports} == {16}


def test_server_joins_what_comes_at_once(tmp_path: Path, runtime_dir: Path) -> None:
    parameters = tmp_path / "batching"
    parameters.write_text(
        f"max_batch_size {{ value: 32 }} batch_timeout_micros {{ value: {_MINUTE} }}"
    )
    with running(
        "--model_name=m",
        f"--model_base_path={runtime_dir}/half_plus_two",
        "--enable_batching",
        f"--batching_parameters_file={parameters}",
    ) as (url, _):

        async def ask() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=url) as client:
                sent = [
                    client.post("/v1/models/m:predict", json={"instances": [float(i)]})
                    for i in range(32)  # fewer, and nothing would be answered within the minute
                ]
                return await asyncio.gather(*sent)

        assert _rows(asyncio.run(ask())) == [[i / 2 + 2] for i in range(32)]


def test_wrong_parameters_of_a_model_fail_its_load(tmp_path: Path, models_dir: Path) -> None:
    shutil.copytree(models_dir / "half_plus_two/123", tmp_path / "1")
    (tmp_path / "1/batching_params.pbtxt").write_text("max_batch_size { value: 0 }")
    with (
        Batcher(BatchingParameters(num_batch_threads=1), per_model=True) as batcher,
        pytest.raises(ServingError) as failed,
    ):
        saved_model.load(tmp_path / "1", wrap=batcher.joined)
    assert str(failed.value) == (
        f"Could not load the SavedModel in {tmp_path}/1: The config file"
        f" {tmp_path}/1/batching_params.pbtxt is not valid: max_batch_size must be positive; was 0"
    )
