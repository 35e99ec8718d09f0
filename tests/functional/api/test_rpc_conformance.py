"""What the conformance table has REST answer, gRPC answers: the same arrays in, the same out."""

from collections.abc import Iterator
from operator import attrgetter

import grpc
import pytest

from lambda_serving.api.rpc.grpc_server import serving
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from support.conformance import Case
from support.rpc_conformance import predictions, replay


@pytest.fixture(scope="module")
def channel(manager: Manager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    path = str(tmp_path_factory.mktemp("rpc") / "socket")
    with (
        serving(manager, Settings(port=0, grpc_socket_path=path)),
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        yield channel


def test_table_has_cases_of_predict() -> None:
    assert len(predictions()) > 50


@pytest.mark.parametrize("case", predictions(), ids=attrgetter("name"))
def test_predicts_as_the_table_says(case: Case, channel: grpc.Channel, manager: Manager) -> None:
    replay(case, channel, lambda spec, name: manager.get(spec).servable.signature(name))
