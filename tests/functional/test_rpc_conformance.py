"""What the conformance table has REST answer, gRPC answers: the same arrays in, the same out."""

from collections.abc import Callable, Iterator
from operator import attrgetter

import grpc
import pytest

from conformance import Case, check, load_cases
from lambda_serving import codec
from lambda_serving.manager import Manager
from lambda_serving.rest import urls
from lambda_serving.rest.urls import Verb
from lambda_serving.rpc.server import serving
from lambda_serving.settings import Settings
from rpc_client import arrays, call, predict_request

Ask = Callable[[str], bytes]


@pytest.fixture(scope="module")
def channel(manager: Manager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    path = str(tmp_path_factory.mktemp("rpc") / "socket")
    with (
        serving(manager, Settings(port=0, grpc_socket_path=path)),
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        yield channel


def _predictions() -> list[Case]:
    """The cases that predict and that the model, not the JSON, has its say about."""
    return [
        case
        for case in load_cases()
        if case.status == 200
        and case.method == "POST"
        and case.path.lower().endswith(":predict")
        and not case.headers
    ]


def test_table_has_cases_of_predict() -> None:
    assert len(_predictions()) > 50


@pytest.mark.parametrize("case", _predictions(), ids=attrgetter("name"))
def test_predicts_as_the_table_says(case: Case, channel: grpc.Channel, manager: Manager) -> None:
    asked = urls.parse(case.method, case.path)
    assert asked.verb is Verb.PREDICT
    document = codec.parse(case.body, codec.Limits())
    signature = manager.get(asked.spec).servable.signature(document.signature_name)
    form, inputs = codec.decode(document, signature)
    spec = {"version": asked.spec.version, "versionLabel": asked.spec.label}
    request = predict_request(
        asked.spec.name,
        inputs,
        signatureName=document.signature_name,
        **{name: str(value) for name, value in spec.items() if value is not None},
    )
    outputs = arrays(call(channel, "Predict", request))
    body = codec.encode({name: outputs[name] for name in signature.outputs}, form)
    check(case, 200, case.response_headers, body)
