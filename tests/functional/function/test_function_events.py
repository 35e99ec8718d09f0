"""Events that are odd but real are answered as plain ones are, whoever sends them."""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mangum.types import LambdaContext

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.function.handler import Handler
from lambda_serving.servables import saved_model
from lambda_serving.store import LocalStore
from support import events
from support.grpc_web import BINARY, frame, frames, outputs
from support.rpc_client import path_of, predict_request

_CONTEXT = cast("LambdaContext", SimpleNamespace(invoked_function_arn="arn:function:live"))
_MODELS = ("half_plus_two", "identity_string", "while_loop")
_PREDICT = "/v1/models/half_plus_two:predict"
_BODY = b'{"instances": [1.0, 2.0]}'

Answer = tuple[int, str, bytes]


@pytest.fixture(scope="module", autouse=True)
def _event_loop() -> Iterator[None]:
    """The loop that Mangum looks for and, when there is none, makes and never closes."""
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        yield
    asyncio.set_event_loop(None)


@pytest.fixture(scope="module")
def manager(models_dir: Path) -> Iterator[Manager]:
    """Small models, as a function has few."""
    models = [ModelConfig(name, str(models_dir / name)) for name in _MODELS]
    manager = Manager(LocalStore({each.name: each.base_path for each in models}), saved_model.load)
    manager.serve(models)
    yield manager
    manager.close()


@pytest.fixture(scope="module")
def function(manager: Manager) -> Callable[[Any], Any]:
    handler = Handler(manager, Settings(model_name="half_plus_two"))
    return lambda event: handler(event, _CONTEXT)


_CALLS = [
    ("POST", _PREDICT, _BODY),
    ("POST", _PREDICT, b""),
    ("POST", _PREDICT, b"\x1f\x8b"),
    ("GET", "/v1/models/half_plus_two", b""),
    ("GET", "/v1/models/half_plus_two/metadata", b""),
    ("GET", "/v1/models/half_plus_two?a=b%20c", b""),
    ("GET", "/v1/models/mod%C3%A8le", b""),
    ("GET", "/elsewhere", b""),
    ("DELETE", _PREDICT, b""),
]
_TEXTS = st.text(max_size=8)
_VALUES = st.one_of(_TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))
_PORTS = st.sampled_from(["443, 80", "", "https", " 443", "443,", 443, None, "\ud800", "٤٤٣"])
_HOSTS = st.sampled_from(["[::1]:3000", "example.com:", "a:b:c", ":", "", "bücher.example", 80])
_ODD_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-forwarded-port": _PORTS,
        "X-Forwarded-Port": _PORTS,
        "host": _HOSTS,
        "Host": _HOSTS,
        "x-forwarded-proto": st.sampled_from(["https, http", "", "wss", 1]),
        "x-forwarded-for": st.sampled_from(["", "::1", "a, b, c", 7]),
        "cookie": _VALUES,
        "x-\u0119": _VALUES,
        "": _VALUES,
        "authorization": _VALUES,
    },
)
_LEFT_OUT = (
    *("headers", "multiValueHeaders", "queryStringParameters", "multiValueQueryStringParameters"),
    *("query_string_parameters", "cookies", "pathParameters", "stageVariables", "resource"),
    *("routeKey", "version", "isBase64Encoded", "is_base64_encoded", "httpMethod"),
)
_NEEDED = {"http", "elb", "serviceArn", "stage"}


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """A plain event, and the same request as an odd one."""
    build = draw(st.sampled_from(list(events.KINDS.values())))
    method, target, body = draw(st.sampled_from(_CALLS))
    plain = build(method, target, {"content-type": "application/json"}, body)
    odd = build(method, target, {}, body)
    headers = draw(_ODD_HEADERS)
    for name in {"headers", "multiValueHeaders"} & odd.keys():
        lists = name == "multiValueHeaders" or draw(st.booleans())
        odd[name] = {
            key: [value] * draw(st.integers(0, 3)) if lists else value
            for key, value in headers.items()
        }
    kept = {"isBase64Encoded", "is_base64_encoded"} if body == b"\x1f\x8b" else set()
    if "?" in target:
        kept |= {"queryStringParameters", "multiValueQueryStringParameters"}
    kept |= set() if "rawPath" in odd or "method" in odd else {"httpMethod"}
    for name in draw(st.sets(st.sampled_from(_LEFT_OUT))) - kept:
        if draw(st.booleans()):
            odd.pop(name, None)
        elif name in odd:
            odd[name] = None
    context = odd.get("requestContext", {})
    for part, needed in ((context, _NEEDED), (context.get("http", {}), {"method"})):
        for name in draw(st.sets(st.sampled_from(sorted(part) or ["none"]))) - needed:
            part.pop(name, None)
    return plain, odd


@given(pair=_pairs())
def test_odd_event_is_answered_as_the_plain_one(
    pair: tuple[Any, Any], function: Callable[[Any], Any]
) -> None:
    plain, odd = map(function, pair)
    assert _seen(odd) == _seen(plain)


def _seen(returned: Any) -> Answer:
    status, headers, body = events.answer(json.loads(json.dumps(returned)))
    return status, headers["content-type"], body


@pytest.mark.parametrize("kind", events.KINDS)
@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ("/v1/models/half%5fplus%5Ftwo", "/v1/models/half_plus_two"),
        ("/V1/Models/half_plus_two", "/v1/models/half_plus_two"),
        ("/v1/models/mod\u00e8le", "/v1/models/mod%C3%A8le"),
        ("/v1/models/a b", "/v1/models/a%20b"),
        ("/v1/models/100%", "/v1/models/100%"),
    ],
)
def test_path_counts_as_sent_or_decoded(
    kind: str, sent: str, path: str, function: Callable[[Any], Any]
) -> None:
    odd, plain = (events.KINDS[kind]("GET", each, {}, b"") for each in (sent, path))
    assert _seen(function(odd)) == _seen(function(plain))


@pytest.mark.parametrize("kind", events.KINDS)
def test_every_sender_gets_compressed_and_binary_answers(
    kind: str, function: Callable[[Any], Any]
) -> None:
    build = events.KINDS[kind]
    body = json.dumps({"instances": [1.0] * 1000}).encode()
    zipped = function(build("POST", _PREDICT, {"accept-encoding": "gzip"}, body))
    assert json.loads(gzip.decompress(events.answer(zipped)[2])) == {"predictions": [2.5] * 1000}
    path = f"/v1/models/half_plus_two/grpc-web{path_of('Predict')}"
    called = function(build("POST", path, {"content-type": BINARY}, _MESSAGE))
    assert outputs(events.answer(called)[2]) == {"y": [2.5, 3.0]}


_MESSAGE = frame(predict_request("half_plus_two", {"x": [1, 2]}).SerializeToString())


def test_answer_over_a_load_balancers_limit_is_413(function: Callable[[Any], Any]) -> None:
    body = json.dumps({"instances": [1e-5] * 200_000}).encode()  # each answered 0.500005
    for kind, status in (("load balancer", 413), ("function URL", 200)):
        returned = function(events.KINDS[kind]("POST", _PREDICT, {}, body))
        assert returned["statusCode"] == status, kind
    assert (
        "1048576 to a load balancer"
        in function(events.KINDS["load balancer, multi-value headers"]("POST", _PREDICT, {}, body))[
            "body"
        ]
    )


def test_direct_invoke_gets_compressed_answers_as_base64(function: Callable[[Any], Any]) -> None:
    event = {"path": _PREDICT, "headers": {"Accept-Encoding": "gzip"}}
    zipped = function(event | {"body": {"instances": [1.0] * 1000}})
    assert zipped["isBase64Encoded"] is True
    assert json.loads(gzip.decompress(base64.b64decode(zipped["body"]))) == {
        "predictions": [2.5] * 1000
    }
    plain = function(event | {"body": {"instances": [1.0]}})
    assert (plain["isBase64Encoded"], plain["body"]) == (False, {"predictions": [2.5]})


def test_direct_invoke_sends_and_gets_bytes_as_base64(function: Callable[[Any], Any]) -> None:
    event = {
        "path": f"/v1/models/half_plus_two/grpc-web{path_of('Predict')}",
        "headers": {"content-type": BINARY},
        "body": base64.b64encode(_MESSAGE).decode(),
        "isBase64Encoded": True,
    }
    called = function(event)
    assert called["isBase64Encoded"] is True
    assert outputs(base64.b64decode(called["body"])) == {"y": [2.5, 3.0]}
    refused = function(event | {"body": "%%%"})
    assert refused["statusCode"] == 400
    assert refused["body"]["error"].startswith("The event's body is not base64: ")


def test_base64_may_have_lines_as_the_command_writes_them(function: Callable[[Any], Any]) -> None:
    body = json.dumps({"instances": [1.0] * 30}).encode()
    for lines in (base64.encodebytes(body), base64.encodebytes(body).replace(b"\n", b"\r\n")):
        event = {"path": _PREDICT, "body": lines.decode(), "isBase64Encoded": True}
        assert function(event)["body"] == {"predictions": [2.5] * 30}


@pytest.mark.parametrize("kind", [*events.KINDS, "direct"])
def test_no_path_is_the_root(kind: str, function: Callable[[Any], Any]) -> None:
    for path in ("", "/"):
        direct = {"path": path, "method": "GET"}
        event = direct if kind == "direct" else events.KINDS[kind]("GET", path, {}, b"")
        assert function(event)["statusCode"] == 404


def test_strings_that_are_no_text_come_to_direct_invokes_as_base64(manager: Manager) -> None:
    handler = Handler(manager, Settings(model_name="identity_string"))
    body = {"instances": [{"b64": base64.b64encode(b"\xff\xfe").decode()}]}
    path = "/v1/models/identity_string:predict"
    for event in (body, {"path": path, "body": body}):
        answer = handler(event, _CONTEXT)
        assert answer["isBase64Encoded"] is True
        assert base64.b64decode(answer["body"]) == b'{"predictions":["\xff\xfe"]}'


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"source": "serverless-plugin-warmup"},
        {"warmer": True, "concurrency": 3},
        events.load("scheduled"),
        events.load("scheduler"),
    ],
)
def test_ping_is_answered_and_is_no_request(
    event: Any, manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Handler(manager, Settings(model_name="half_plus_two"))
    warm = {"status": "warm", "model": "half_plus_two", "version": 123}
    assert handler(event, _CONTEXT) == warm
    assert capsys.readouterr().out == ""
    handler({"instances": [1.0]}, _CONTEXT)
    line = json.loads(capsys.readouterr().out)
    assert (line["RequestCount"], line["ColdStart"]) == ([1.0], [0.0])


@pytest.mark.parametrize(
    "event", [{"source": "aws.events", "instances": [1.0]}, {"warmer": True, "inputs": [1.0]}]
)
def test_body_of_predict_is_no_ping(event: Any, function: Callable[[Any], Any]) -> None:
    assert function(event) == {"predictions" if "instances" in event else "outputs": [2.5]}


_KEYS = st.sampled_from(
    [
        *("requestContext", "http", "elb", "serviceArn", "stage", "method", "httpMethod", "path"),
        *("rawPath", "raw_path", "rawQueryString", "queryStringParameters", "headers", "body"),
        *("multiValueQueryStringParameters", "multiValueHeaders", "isBase64Encoded", "version"),
        *(
            "query_string_parameters",
            "is_base64_encoded",
            "instances",
            "source",
            "warmer",
            "\ud800",
        ),
    ]
)
_LEAVES = st.sampled_from([None, True, 1, 1.5, "", "POST", _PREDICT, "e30=", "\ud800", "\xff", "?"])
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5)
)


@given(event=st.dictionaries(_KEYS, _JSON, max_size=8) | _JSON)
def test_no_event_fails(event: Any, function: Callable[[Any], Any]) -> None:
    answer = function(event)
    assert "statusCode" in answer or answer.keys() & {"error", "status", "predictions"}
    assert answer.get("statusCode", 200) not in {500, 504}
    assert "\ufffd" not in json.dumps(answer, ensure_ascii=False)


_STAGED = list(events.KINDS)[:4]
"""Who has stages, or is sent events of their form."""


@pytest.mark.parametrize("kind", _STAGED)
@pytest.mark.parametrize(
    ("base_path", "stage", "path", "status"),
    [
        ("", "prod", "/prod/v1/models/half_plus_two", 200),
        ("", "v1", "/v1/v1/models/half_plus_two", 200),
        ("", "v1", "/v1/models/half_plus_two", 200),
        ("/ml", "prod", "/prod/ml/v1/models/half_plus_two", 200),
        ("/ml", "prod", "/ml/v1/models/half_plus_two", 200),
        ("/v1", "v1", "/v1/v1/v1/models/half_plus_two", 200),
        ("", "prod", "/test/v1/models/half_plus_two", 404),
        ("", "$default", "/prod/v1/models/half_plus_two", 404),
    ],
)
def test_paths_come_with_the_stage(
    kind: str, base_path: str, stage: str, path: str, status: int, manager: Manager
) -> None:
    handler = Handler(manager, Settings(model_name="half_plus_two"), base_path=base_path)
    event = events.KINDS[kind]("GET", path, {}, b"")
    event["requestContext"]["stage"] = stage
    assert handler(event, _CONTEXT)["statusCode"] == status


@pytest.mark.parametrize("kind", [*events.KINDS, "direct"])
@pytest.mark.parametrize(
    ("base_path", "path", "status"),
    [
        ("/ml", "/ml/v1/models/half_plus_two", 200),
        ("ml/", "/ml/v1/models/half_plus_two", 200),
        ("/ml/eu", "/ml/eu/v1/models/half_plus_two", 200),
        ("/ml/v1", "/ml/v1/v1/models/half_plus_two", 200),
        ("/v1", "/v1/v1/models/half_plus_two", 200),
        ("/v1", "/v1/models/half_plus_two", 200),
        ("/ml", "/v1/models/half_plus_two", 200),
        ("/ml", "/mlv1/models/half_plus_two", 404),
        ("/ml", "/other/v1/models/half_plus_two", 404),
        ("", "/ml/v1/models/half_plus_two", 404),
    ],
)
def test_paths_come_with_a_base_path(
    kind: str, base_path: str, path: str, status: int, manager: Manager
) -> None:
    handler = Handler(manager, Settings(model_name="half_plus_two"), base_path=base_path)
    direct = {"path": path, "method": "GET"}
    event = direct if kind == "direct" else events.KINDS[kind]("GET", path, {}, b"")
    assert handler(event, _CONTEXT)["statusCode"] == status


def test_health_is_found_behind_a_base_path(manager: Manager) -> None:
    handler = Handler(manager, Settings(model_name="half_plus_two"), base_path="/ml")
    assert handler({"path": "/ml/healthz"}, _CONTEXT)["statusCode"] == 200


def _context(left_ms: int) -> LambdaContext:
    """A context whose clock stands still."""
    clock = SimpleNamespace(get_remaining_time_in_millis=lambda: left_ms)
    return cast("LambdaContext", clock)


_ENDLESS = [2**63 - 1]  # doubling overflows to 0 and stays there
_LOOP = "/v1/models/while_loop:predict"


@pytest.mark.parametrize(
    "event",
    [
        *(
            build("POST", _LOOP, {}, json.dumps({"inputs": _ENDLESS}).encode())
            for build in events.KINDS.values()
        ),
        {"path": _LOOP, "body": {"inputs": _ENDLESS}},
    ],
    ids=[*events.KINDS, "direct"],
)
def test_slow_graph_is_504_before_lambdas_end_and_the_next_request_is_answered(
    event: Any, manager: Manager
) -> None:
    settings = Settings(model_name="half_plus_two", rest_api_timeout_in_ms=0)
    handler = Handler(manager, settings)
    assert handler(event, _context(400))["statusCode"] == 504
    assert handler({"instances": [1.0]}, _context(60_000)) == {"predictions": [2.5]}


def test_slow_graph_of_a_bare_body_is_an_error_that_says_so(manager: Manager) -> None:
    settings = Settings(model_name="while_loop", rest_api_timeout_in_ms=0)
    handler = Handler(manager, settings)
    answer = handler({"inputs": _ENDLESS}, _context(400))
    assert list(answer) == ["error"]
    assert handler({"inputs": [5]}, _context(60_000)) == {"outputs": [8]}


def test_slow_call_of_grpc_web_exceeds_its_deadline(manager: Manager) -> None:
    handler = Handler(manager, Settings(model_name="while_loop", rest_api_timeout_in_ms=0))
    request = predict_request("while_loop", {"x": np.array(_ENDLESS)})
    path = f"/v1/models/while_loop/grpc-web{path_of('Predict')}"
    body = frame(request.SerializeToString())
    event = events.payload_2("POST", path, {"content-type": BINARY}, body)
    status, _, answer = events.answer(handler(event, _context(400)))
    assert status == 504 or frames(answer)[0][1].startswith(b"grpc-status:4\r\n")


@pytest.mark.parametrize("name", ["method", "httpMethod"])
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("get", "/v1/models/half_plus_two", None, 200),
        ("Get", "/v1/models/half_plus_two", "", 200),
        ("GET", "/v1/models/half_plus_two", {"instances": [1.0]}, 200),
        ("post", _PREDICT, {"instances": [1.0]}, 200),
        ("POST", _PREDICT, None, 400),
        ("GET", _PREDICT, {"instances": [1.0]}, 400),
        ("POST", "/v1/models/half_plus_two", None, 400),
        ("brew", _PREDICT, None, 501),
    ],
)
def test_direct_invoke_has_the_method_that_it_names(
    name: str, method: str, path: str, body: Any, status: int, function: Callable[[Any], Any]
) -> None:
    assert function({"path": path, name: method, "body": body})["statusCode"] == status
