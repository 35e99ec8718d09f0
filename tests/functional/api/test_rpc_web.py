"""gRPC-Web beside REST: in process, and through Lambda's events."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from mangum.types import LambdaContext
from starlette.types import ASGIApp

from lambda_serving.api import inline_or_thread
from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import create_app
from lambda_serving.api.rpc import grpc_web, with_grpc_web
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.function.event_call import MAX_ANSWER, MAX_BYTES
from lambda_serving.function.handler import Handler
from support import events
from support.asgi import ask
from support.grpc_web import BINARY, TEXT, frame, frames, outputs
from support.rpc_client import message, path_of, predict_request

_HALF = predict_request("half_plus_two", {"x": [1, 2]}).SerializeToString()
_PREDICT = path_of("Predict")


def _context(alias: str = "live") -> LambdaContext:
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:system-half_plus_two:{alias}"
    return cast("LambdaContext", SimpleNamespace(aws_request_id="1", invoked_function_arn=arn))


@pytest.fixture(scope="module")
def make(manager: Manager) -> Callable[..., ASGIApp]:
    """Makes the application of a server with these settings."""

    def make(
        threads: Threads | None = None,
        max_answer: int | None = None,
        timeout_ms: int = 0,
        **settings: Any,
    ) -> ASGIApp:
        flags = Settings(**settings)
        return with_grpc_web(
            create_app(manager, flags),
            manager,
            flags,
            threads,
            max_answer=max_answer,
            timeout_ms=timeout_ms,
        )

    return make


@pytest.fixture(scope="module")
def app(make: Callable[..., ASGIApp]) -> ASGIApp:
    return make()


def _ask(app: ASGIApp, body: bytes, path: str = _PREDICT, **headers: str) -> httpx.Response:
    named = {"content-type": BINARY} | {k.replace("_", "-"): v for k, v in headers.items()}
    return ask(app, "POST", path, content=body, headers=named)


def _y(body: bytes) -> Any:
    """The output in a successful answer."""
    return outputs(body)["y"]


def test_predicts_by_bytes(app: ASGIApp) -> None:
    answer = _ask(app, frame(_HALF))
    assert (answer.status_code, answer.headers["content-type"]) == (200, BINARY)
    assert _y(answer.content) == [2.5, 3.0]


@pytest.mark.parametrize("cut", [6, 7, 8])
def test_predicts_by_base64_in_one_piece_or_two(app: ASGIApp, cut: int) -> None:
    framed = frame(_HALF)
    for body in (
        base64.b64encode(framed),
        base64.b64encode(framed[:cut]) + base64.b64encode(framed[cut:]),
    ):
        answer = _ask(app, body, content_type=TEXT)
        assert (answer.status_code, answer.headers["content-type"]) == (200, TEXT)
        assert _y(base64.b64decode(answer.content, validate=True)) == [2.5, 3.0]


@pytest.mark.parametrize("count", [1, 2, 3, 40, 41, 42])
def test_large_base64_is_read_and_written_in_pieces(
    make: Callable[..., ASGIApp], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline_or_thread, "_SMALL", 0)
    for name, size in (("_TEXT_PIECE", 8), ("_BINARY_PIECE", 6)):
        monkeypatch.setattr(grpc_web, name, size)
    request = predict_request("half_plus_two", {"x": np.ones(count, np.float32)})
    request.model_spec.signature_name = "serving_default"
    framed = frame(request.SerializeToString())
    with Threads(1, "predict") as pool:
        app = make(pool)
        for cut in (0, 6, 7, 8):
            body = base64.b64encode(framed[:cut]) + base64.b64encode(framed[cut:])
            answer = _ask(app, body, content_type=TEXT)
            assert _y(base64.b64decode(answer.content, validate=True)) == [2.5] * count
        assert b"not base64" in base64.b64decode(_ask(app, b"A" * 41, content_type=TEXT).content)


def test_predicts_in_threads(make: Callable[..., ASGIApp]) -> None:
    large = predict_request("half_plus_two", {"x": np.zeros(10_000, np.float32)})
    with Threads(1, "predict") as pool:
        app = make(pool)
        for request, rows in ((_HALF, 2), (large.SerializeToString(), 10_000)):
            for _ in range(2):
                assert len(_y(_ask(app, frame(request)).content)) == rows


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
    with Threads(1, "predict") as pool:
        body = frame(requests[method].SerializeToString())
        (_, content), (_, trailers) = frames(_ask(make(pool), body, path_of(method)).content)
    assert content
    assert trailers == b"grpc-status:0\r\n"


_SOON = {"grpc_timeout": "300m"}
_ENDLESS = predict_request("while_loop", {"x": np.array([2**63 - 1])}).SerializeToString()


@pytest.mark.parametrize(
    ("path", "body", "headers", "trailers"),
    [
        (
            _PREDICT,
            frame(predict_request("é%", {}).SerializeToString()),
            {},
            ("grpc-status:5\r\ngrpc-message:Servable not found for request: Latest(%C3%A9%25)\r\n"),
        ),
        (_PREDICT, b"", {}, "grpc-status:3\r\ngrpc-message:The body is not a gRPC-Web frame\r\n"),
        (
            _PREDICT,
            frame(_HALF) + b"x",
            {},
            (
                "grpc-status:3\r\ngrpc-message:The body is not one gRPC-Web frame:"
                f" {len(_HALF) + 1} bytes follow its head, which says {len(_HALF)}\r\n"
            ),
        ),
        (
            _PREDICT,
            frame(_HALF, 1),
            {},
            "grpc-status:12\r\ngrpc-message:Compressed gRPC-Web frames are not supported\r\n",
        ),
        (
            "/tensorflow.serving.PredictionService/Nope",
            frame(b""),
            {},
            (
                "grpc-status:12\r\n"
                "grpc-message:Unknown method /tensorflow.serving.PredictionService/Nope\r\n"
            ),
        ),
        (
            path_of("HandleReloadConfigRequest"),
            frame(
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
            frame(_HALF),
            {"grpc_timeout": "soon"},
            (
                "grpc-status:3\r\n"
                "grpc-message:grpc-timeout is 'soon'; it must be a number and a unit, as 100m\r\n"
            ),
        ),
    ],
)
def test_failures_are_trailers(
    app: ASGIApp, path: str, body: bytes, headers: dict[str, str], trailers: str
) -> None:
    answer = _ask(app, body, path, **headers)
    assert (answer.status_code, frames(answer.content)) == (200, [(128, trailers.encode())])


def test_timeout_of_the_client_ends_the_run(app: ASGIApp) -> None:
    [(_, trailers)] = frames(_ask(app, frame(_ENDLESS), **_SOON).content)
    assert trailers.startswith(b"grpc-status:4\r\n")


def test_body_that_is_no_base64_is_refused(app: ASGIApp) -> None:
    answer = _ask(app, b"!!!!", content_type=TEXT)
    [(_, trailers)] = frames(base64.b64decode(answer.content))
    assert trailers.startswith(b"grpc-status:3\r\ngrpc-message:The body is not base64")


def test_body_over_the_limit_is_refused(make: Callable[..., ASGIApp]) -> None:
    app = make(rest_api_max_body_bytes=10)
    [(_, trailers)] = frames(_ask(app, frame(_HALF)).content)
    assert trailers.startswith(b"grpc-status:8\r\ngrpc-message:The request body is over 10 bytes")


def test_request_that_is_not_grpc_web_is_refused_by_http(app: ASGIApp) -> None:
    assert _ask(app, b"{}", content_type="application/json").status_code == 415
    assert ask(app, "GET", _PREDICT).status_code == 405


def test_pages_of_other_origins_may_call_by_flag_only(make: Callable[..., ASGIApp]) -> None:
    allowed = "access-control-allow-origin"
    with_cors = make(rest_api_enable_cors_support=True)
    for path in (_PREDICT, _below("half_plus_two")):
        preflight = ask(with_cors, "OPTIONS", path).headers
        assert preflight[allowed] == "*"
        assert {"content-type", "grpc-timeout", "x-grpc-web", "x-user-agent"} <= {
            *preflight["access-control-allow-headers"].split(", ")
        }
    assert _ask(with_cors, frame(_HALF)).headers[allowed] == "*"
    assert allowed not in ask(make(), "OPTIONS", _PREDICT).headers


def _below(place: str, method: str = "Predict") -> str:
    """The address of a method below one of a model."""
    return f"/v1/models/{place}/grpc-web{path_of(method)}"


def _two_versions(**spec: Any) -> bytes:
    return frame(predict_request("two_versions", {"x": [2]}, **spec).SerializeToString())


@pytest.mark.parametrize(
    ("place", "spec", "y"),
    [
        ("two_versions", {}, 4.0),
        ("two_versions", {"version": "1"}, 3.0),
        ("two_versions", {"versionLabel": "stable"}, 3.0),
        ("two_versions/versions/1", {}, 3.0),
        ("two_versions/versions/0001", {"version": "1"}, 3.0),
        ("two_versions/labels/stable", {}, 3.0),
        ("two_versions/labels/%63anary", {"versionLabel": "canary"}, 4.0),
        ("two%5Fversions", {}, 4.0),
    ],
)
@pytest.mark.parametrize("threads", [0, 1])
def test_address_of_a_model_says_what_the_message_leaves_open(
    make: Callable[..., ASGIApp], threads: int, place: str, spec: dict[str, str], y: float
) -> None:
    with Threads(1, "predict") as pool:
        answer = _ask(make(pool if threads else None), _two_versions(**spec), _below(place))
    assert _y(answer.content) == [y]


@pytest.mark.parametrize(
    ("place", "spec", "trailers"),
    [
        (
            "half_plus_two",
            {},
            (
                "grpc-status:3\r\ngrpc-message:The request asks for model two_versions,"
                " its address is that of half_plus_two\r\n"
            ),
        ),
        (
            "two_versions/versions/2",
            {"version": "1"},
            (
                "grpc-status:3\r\ngrpc-message:The request asks for version 1 of model"
                " two_versions, its address is that of version 2; leave it out of the request\r\n"
            ),
        ),
        (
            "two_versions/versions/1",
            {"versionLabel": "stable"},
            (
                "grpc-status:3\r\ngrpc-message:The request asks for label stable of model"
                " two_versions, its address is that of version 1; leave it out of the request\r\n"
            ),
        ),
        (
            "two_versions/versions/7",
            {},
            (
                "grpc-status:5\r\ngrpc-message:Servable not found for request:"
                " Specific(two_versions, 7)\r\n"
            ),
        ),
        (
            "two_versions/labels/none",
            {},
            "grpc-status:3\r\ngrpc-message:Unrecognized servable version label: none\r\n",
        ),
    ],
)
def test_message_for_something_else_than_its_address_is_refused(
    app: ASGIApp, place: str, spec: dict[str, str], trailers: str
) -> None:
    answer = _ask(app, _two_versions(**spec), _below(place))
    assert (answer.status_code, frames(answer.content)) == (200, [(128, trailers.encode())])


@pytest.mark.parametrize("name", [None, ""])
def test_message_that_names_no_model_is_refused_below_one_too(
    app: ASGIApp, name: str | None
) -> None:
    fields = {} if name is None else {"modelSpec": {"name": name}}
    body = frame(message("PredictRequest", fields).SerializeToString())
    own, below = (_ask(app, body, path) for path in (_PREDICT, _below("two_versions/versions/1")))
    assert below.content == own.content
    assert frames(own.content)[0][1].startswith(b"grpc-status:3\r\n")


def test_every_task_must_be_for_the_model_of_the_address(app: ASGIApp) -> None:
    tasks = [{"modelSpec": {"name": name}} for name in ("half_plus_two", "two_versions")]
    body = frame(message("MultiInferenceRequest", {"tasks": tasks}).SerializeToString())
    [(_, trailers)] = frames(_ask(app, body, _below("half_plus_two", "MultiInference")).content)
    assert b"The request asks for model two_versions" in trailers


def test_unknown_method_below_a_model_is_unimplemented(app: ASGIApp) -> None:
    path = "/v1/models/half_plus_two/grpc-web/grpc.health.v1.Health/Check"
    [(_, trailers)] = frames(_ask(app, frame(b""), path).content)
    assert trailers == (
        b"grpc-status:12\r\ngrpc-message:Unknown method /grpc.health.v1.Health/Check\r\n"
    )


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/models/half_plus_two/grpc-web/{path_of('Predict')}",
        f"/v1/models/half_plus_two/versions/{2**63}/grpc-web{path_of('Predict')}",
        f"/v1/models/a/b/grpc-web{path_of('Predict')}",
        "/v1/models/half_plus_two/grpc-web/",
        "/v1/models/half_plus_two/grpc-web",
    ],
)
def test_path_that_is_no_address_is_malformed(app: ASGIApp, path: str) -> None:
    answer = _ask(app, frame(_HALF), path)
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": f"Malformed request: POST {path}"},
    )


def test_run_is_bounded_where_the_client_bounds_it_less(make: Callable[..., ASGIApp]) -> None:
    for bound, header in ((300, {}), (300, {"grpc_timeout": "1H"}), (3_600_000, _SOON)):
        [(_, trailers)] = frames(_ask(make(timeout_ms=bound), frame(_ENDLESS), **header).content)
        assert trailers.startswith(b"grpc-status:4\r\n")


def test_answer_over_the_bound_says_how_large_it_is(make: Callable[..., ASGIApp]) -> None:
    size = len(_ask(make(), frame(_HALF)).content)
    assert _y(_ask(make(max_answer=size), frame(_HALF)).content) == [2.5, 3.0]
    [(_, trailers)] = frames(_ask(make(max_answer=size - 1), frame(_HALF)).content)
    assert trailers.decode() == (
        f"grpc-status:8\r\ngrpc-message:The answer has {size} bytes; a function can return"
        f" {size - 1}. Send fewer rows in a request, or use a server.\r\n"
    )


def test_other_calls_go_to_the_other_application(app: ASGIApp) -> None:
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
    event = payload("POST", _PREDICT, {"content-type": BINARY}, frame(request))
    assert event["isBase64Encoded"]
    returned = handler(event, _context())
    status, headers, body = events.answer(returned)
    assert (status, headers["content-type"], returned["isBase64Encoded"]) == (200, BINARY, True)
    assert _y(body) == pytest.approx([2.55, 3.1])


def test_function_answers_base64_as_text(handler: Handler) -> None:
    body = base64.b64encode(frame(_HALF))
    event = events.payload_2("POST", _PREDICT, {"content-type": TEXT}, body)
    returned = handler(event, _context())
    assert not returned["isBase64Encoded"]
    assert _y(base64.b64decode(returned["body"], validate=True)) == [2.5, 3.0]


@pytest.mark.parametrize(
    ("alias", "place"),
    [
        ("live", "half_plus_two"),
        ("version-123", "half_plus_two/versions/123"),
        ("label-stable", "half_plus_two/labels/stable"),
    ],
)
def test_function_is_called_below_the_addresses_of_its_aliases(
    handler: Handler, alias: str, place: str
) -> None:
    event = events.payload_2("POST", _below(place), {"content-type": BINARY}, frame(_HALF))
    event["routeKey"] = event["requestContext"]["routeKey"] = f"ANY /v1/models/{place}/{{proxy+}}"
    _, _, body = events.answer(handler(event, _context(alias)))
    assert _y(body) == [2.5, 3.0]


def _call(handler: Handler, rows: int, content_type: str) -> tuple[Any, bytes]:
    """What a function returns for `rows` rows, and the frames in it."""
    request = predict_request("half_plus_two", {"x": np.zeros(rows, np.float32)})
    body = frame(request.SerializeToString())
    if content_type == TEXT:
        body = base64.b64encode(body)
    returned = handler(
        events.payload_2("POST", _PREDICT, {"content-type": content_type}, body), _context()
    )
    content = events.answer(returned)[2]
    return returned, base64.b64decode(content) if content_type == TEXT else content


@pytest.mark.parametrize("content_type", [BINARY, TEXT])
def test_function_returns_answers_up_to_lambdas_limit_and_tells_of_larger_ones(
    handler: Handler, content_type: str
) -> None:
    rows = (MAX_BYTES - 8192) // 4  # in as many pieces as what comes next
    _, answer = _call(handler, rows, content_type)
    most = (MAX_BYTES - (len(answer) - 4 * rows)) // 4  # a row is four bytes
    returned, answer = _call(handler, most, content_type)
    assert len(_y(answer)) == most
    assert MAX_ANSWER - 8192 < len(json.dumps(returned)) <= MAX_ANSWER
    returned, answer = _call(handler, most + 1, content_type)
    [(_, trailers)] = frames(answer)
    assert (returned["statusCode"], trailers[:14]) == (200, b"grpc-status:8\r")
    assert b"a function can return" in trailers


def test_function_bounds_a_run_whose_client_does_not(manager: Manager) -> None:
    handler = Handler(manager, Settings(model_name="while_loop", rest_api_timeout_in_ms=300))
    event = events.payload_2("POST", _PREDICT, {"content-type": BINARY}, frame(_ENDLESS))
    [(_, trailers)] = frames(events.answer(handler(event, _context()))[2])
    assert trailers.startswith(b"grpc-status:4\r\n")


_STARTS = """
import sys
import lambda_serving.function.handler, lambda_serving.server.http_server
late = {"grpc", "lambda_serving.api.rpc.services", "lambda_serving.api.rpc.grpc_web"}
assert not late & sys.modules.keys(), late & sys.modules.keys()
import lambda_serving.api.rpc.grpc_web
assert "grpc" not in sys.modules
assert "tensorflow" not in sys.modules
"""


def test_start_imports_nothing_of_it_and_it_needs_no_grpcio() -> None:
    subprocess.run([sys.executable, "-c", _STARTS], check=True)
