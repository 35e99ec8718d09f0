"""gRPC answers the conformance table as REST does: the same arrays in, the same out."""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

import grpc
import pytest

from lambda_serving.api.rpc.grpc_server import serving
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from support.conformance import Case, load_cases
from support.litert_cases import litert_cases
from support.rpc_conformance import predictions, replay


@contextmanager
def _channel(manager: Manager, paths: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    path = str(paths.mktemp("rpc") / "socket")
    with (
        serving(manager, Settings(port=0, grpc_socket_path=path)),
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        yield channel


@pytest.fixture(scope="module")
def channel(manager: Manager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    with _channel(manager, tmp_path_factory) as channel:
        yield channel


@pytest.fixture(scope="module")
def tflite_channel(
    tflite_manager: Manager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[grpc.Channel]:
    with _channel(tflite_manager, tmp_path_factory) as channel:
        yield channel


def test_table_has_cases_of_predict() -> None:
    assert len(predictions(load_cases())) > 50


@pytest.mark.parametrize("case", predictions(load_cases()), ids=attrgetter("name"))
def test_predicts_as_the_table_says(case: Case, channel: grpc.Channel, manager: Manager) -> None:
    replay(case, channel, lambda spec, name: manager.get(spec).servable.signature(name))


@pytest.mark.parametrize("case", predictions(litert_cases()), ids=attrgetter("name"))
def test_litert_predicts_as_the_table_says(
    case: Case, tflite_channel: grpc.Channel, tflite_manager: Manager
) -> None:
    replay(
        case,
        tflite_channel,
        lambda spec, name: tflite_manager.get(spec).servable.signature(name),
    )
