"""gRPC-Web beside REST: in process, and through Lambda's events."""

import asyncio
import base64
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from mangum.types import LambdaContext
from starlette.types import ASGIApp

import events
from asgi import ask
from lambda_serving import protos
from lambda_serving.function.handler import Handler
from lambda_serving.manager import Manager
from lambda_serving.rest import RestOptions, create_app
from lambda_serving.rpc import with_grpc_web
from lambda_serving.settings import Settings
from rpc_client import arrays, message, path_of, predict_request

_BINARY = "application/grpc-web+proto"
_TEXT = "application/grpc-web-text"
_HALF = predict_request("half_plus_two", {"x": [1, 2]}).SerializeToString()
_PREDICT = path_of("Predict")
_RESPONSE = protos.message("tensorflow.serving.PredictResponse")
_CONTEXT = cast("LambdaContext", SimpleNamespace(aws_request_id="1", invoked_function_arn="arn:x"))


@pytest.fixture(scope="module")
def make(manager: Manager) -> Callable[..., ASGIApp]:
    """Makes what a server with these settings answers with."""

    def make(executor: ThreadPoolExecutor | None = None, **settings: Any) -> ASGIApp:
        flags = Settings(**settings)
        return with_grpc_web(create_app(manager, RestOptions.of(flags)), manager, flags, executor)

    return make


@pytest.fixture(scope="module")
def app(make: Callable[..., ASGIApp]) -> ASGIApp:
    return make()


def _frame(content: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(content)) + content


def _ask(app: ASGIApp, body: bytes, path: str = _PREDICT, **headers: str) -> httpx.Response:
    named = {"content-type": _BINARY} | {k.replace("_", "-"): v for k, v in headers.items()}
    return ask(app, "POST", path, content=body, headers=named)


def _frames(body: bytes) -> list[tuple[int, bytes]]:
    frames = []
    while body:
        flags, length = struct.unpack_from(">BI", body)
        frames.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return frames


def _y(body: bytes) -> Any:
    """The output of an answer that is OK."""
    (flags, content), trailers = _frames(body)
    assert (flags, trailers) == (0, (128, b"grpc-status:0\r\n"))
    return arrays(_RESPONSE.FromString(content))["y"].tolist()


def test_predicts_by_bytes(app: ASGIApp) -> None:
    answer = _ask(app, _frame(_HALF))
    assert (answer.status_code, answer.headers["content-type"]) == (200, _BINARY)
    assert _y(answer.content) == [2.5, 3.0]


@pytest.mark.parametrize("cut", [6, 7, 8])
def test_predicts_by_base64_in_one_piece_or_two(app: ASGIApp, cut: int) -> None:
    framed = _frame(_HALF)
    for body in (
        base64.b64encode(framed),
        base64.b64encode(framed[:cut]) + base64.b64encode(framed[cut:]),
    ):
        answer = _ask(app, body, content_type=_TEXT)
        assert (answer.status_code, answer.headers["content-type"]) == (200, _TEXT)
        assert _y(base64.b64decode(answer.content, validate=True)) == [2.5, 3.0]


def test_predicts_in_the_threads_of_an_executor(make: Callable[..., ASGIApp]) -> None:
    large = predict_request("half_plus_two", {"x": np.zeros(10_000, np.float32)})
    with ThreadPoolExecutor(1) as executor:
        app = make(executor)
        for request, rows in ((_HALF, 2), (large.SerializeToString(), 10_000)):
            for _ in range(2):
                assert len(_y(_ask(app, _frame(request)).content)) == rows


@pytest.mark.parametrize("method", ["GetModelStatus", "GetModelMetadata", "MultiInference"])
def test_other_methods_are_answered_too(make: Callable[..., ASGIApp], method: str) -> None:
    spec = {"name": "half_plus_two"}
    requests = {
        "GetModelStatus": message("GetModelStatusRequest", {"modelSpec": spec}),
        "GetModelMetadata": message(
            "GetModelMetadataRequest", {"modelSpec": spec, "metadataField": ["signature_def"]}
        ),
        "MultiInference": message(
            "MultiInferenceRequest",
            {
                "tasks": [
                    {
                        "modelSpec": {**spec, "signatureName": "regress_x_to_y"},
                        "methodName": "tensorflow/serving/regress",
                    }
                ],
                "input": {
                    "exampleList": {
                        "examples": [
                            {"features": {"feature": {"x": {"floatList": {"value": [1.0]}}}}}
                        ]
                    }
                },
            },
        ),
    }
    with ThreadPoolExecutor(1) as executor:
        body = _frame(requests[method].SerializeToString())
        (_, content), (_, trailers) = _frames(_ask(make(executor), body, path_of(method)).content)
    assert content
    assert trailers == b"grpc-status:0\r\n"


_ENDLESS = predict_request("while_loop", {"x": np.array([2**63 - 1])}).SerializeToString()


@pytest.mark.parametrize(
    ("path", "body", "headers", "trailers"),
    [
        (
            _PREDICT,
            _frame(predict_request("é%", {}).SerializeToString()),
            {},
            ("grpc-status:5\r\ngrpc-message:Servable not found for request: Latest(%C3%A9%25)\r\n"),
        ),
        (_PREDICT, b"", {}, "grpc-status:3\r\ngrpc-message:The body is not a gRPC-Web frame\r\n"),
        (
            _PREDICT,
            _frame(_HALF) + b"x",
            {},
            (
                "grpc-status:3\r\ngrpc-message:The body is not one gRPC-Web frame:"
                f" {len(_HALF) + 1} bytes follow its head, which says {len(_HALF)}\r\n"
            ),
        ),
        (
            _PREDICT,
            _frame(_HALF, 1),
            {},
            "grpc-status:12\r\ngrpc-message:Compressed gRPC-Web frames are not supported\r\n",
        ),
        (
            "/tensorflow.serving.PredictionService/Nope",
            _frame(b""),
            {},
            (
                "grpc-status:12\r\n"
                "grpc-message:Unknown method /tensorflow.serving.PredictionService/Nope\r\n"
            ),
        ),
        (
            path_of("HandleReloadConfigRequest"),
            _frame(
                message(
                    "ReloadConfigRequest",
                    {
                        "config": {
                            "modelConfigList": {
                                "config": [
                                    {"name": "m", "basePath": "/m", "modelPlatform": "tensorflow"}
                                ]
                            }
                        }
                    },
                ).SerializeToString()
            ),
            {},
            (
                "grpc-status:12\r\n"
                "grpc-message:The models served here cannot be replaced by a call\r\n"
            ),
        ),
        (
            _PREDICT,
            _frame(_HALF),
            {"grpc_timeout": "soon"},
            "grpc-status:3\r\ngrpc-message:grpc-timeout is 'soon'\r\n",
        ),
    ],
)
def test_failures_are_trailers(
    app: ASGIApp, path: str, body: bytes, headers: dict[str, str], trailers: str
) -> None:
    answer = _ask(app, body, path, **headers)
    assert (answer.status_code, _frames(answer.content)) == (200, [(128, trailers.encode())])


def test_timeout_of_the_client_ends_the_run(app: ASGIApp) -> None:
    [(_, trailers)] = _frames(_ask(app, _frame(_ENDLESS), grpc_timeout="300m").content)
    assert trailers.startswith(b"grpc-status:4\r\n")


def test_body_that_is_no_base64_is_refused(app: ASGIApp) -> None:
    answer = _ask(app, b"!!!!", content_type=_TEXT)
    [(_, trailers)] = _frames(base64.b64decode(answer.content))
    assert trailers.startswith(b"grpc-status:3\r\ngrpc-message:The body is not base64")


def test_body_over_the_limit_is_refused(make: Callable[..., ASGIApp]) -> None:
    app = make(rest_api_max_body_bytes=10)
    [(_, trailers)] = _frames(_ask(app, _frame(_HALF)).content)
    assert trailers.startswith(b"grpc-status:8\r\ngrpc-message:The request body is over 10 bytes")


def test_what_is_not_grpc_web_is_refused_by_http(app: ASGIApp) -> None:
    assert _ask(app, b"{}", content_type="application/json").status_code == 415
    assert ask(app, "GET", _PREDICT).status_code == 405


def test_pages_of_other_origins_may_call_by_flag_only(make: Callable[..., ASGIApp]) -> None:
    allowed = "access-control-allow-origin"
    with_cors = make(rest_api_enable_cors_support=True)
    assert ask(with_cors, "OPTIONS", _PREDICT).headers[allowed] == "*"
    assert _ask(with_cors, _frame(_HALF)).headers[allowed] == "*"
    assert allowed not in ask(make(), "OPTIONS", _PREDICT).headers


def test_all_else_is_the_other_applications(app: ASGIApp) -> None:
    body = {"instances": [1.0]}
    answer = ask(app, "POST", "/v1/models/half_plus_two:predict", json=body)
    assert answer.json() == {"predictions": [2.5]}
    assert ask(app, "GET", "/healthz").status_code == 200


@pytest.fixture(scope="module")
def handler(manager: Manager) -> Iterator[Handler]:
    with asyncio.Runner() as runner:  # the loop that Mangum looks for
        asyncio.set_event_loop(runner.get_loop())
        yield Handler(manager, Settings(model_name="half_plus_two"))
    asyncio.set_event_loop(None)


@pytest.mark.parametrize("payload", [events.payload_1, events.payload_2])
def test_function_answers_bytes_as_bytes(handler: Handler, payload: Callable[..., Any]) -> None:
    request = predict_request("half_plus_two", {"x": [1.1, 2.2]}).SerializeToString()
    event = payload("POST", _PREDICT, {"content-type": _BINARY}, _frame(request))
    assert event["isBase64Encoded"]
    returned = handler(event, _CONTEXT)
    status, headers, body = events.answer(returned)
    assert (status, headers["content-type"], returned["isBase64Encoded"]) == (200, _BINARY, True)
    assert _y(body) == pytest.approx([2.55, 3.1])


def test_function_answers_base64_as_base64(handler: Handler) -> None:
    body = base64.b64encode(_frame(_HALF))
    event = events.payload_2("POST", _PREDICT, {"content-type": _TEXT}, body)
    _, _, content = events.answer(handler(event, _CONTEXT))
    assert _y(base64.b64decode(content, validate=True)) == [2.5, 3.0]


_STARTS = """
import sys
import lambda_serving.function.handler, lambda_serving.http_server
late = {"grpc", "lambda_serving.rpc.services", "lambda_serving.rpc.web"}
assert not late & sys.modules.keys(), late & sys.modules.keys()
import lambda_serving.rpc.web
assert "grpc" not in sys.modules
assert "tensorflow" not in sys.modules
"""


def test_start_imports_nothing_of_it_and_it_needs_no_grpcio() -> None:
    subprocess.run([sys.executable, "-c", _STARTS], check=True)
