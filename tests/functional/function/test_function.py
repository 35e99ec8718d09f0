"""The function's handler: the conformance table as events, every kind of event, broken ones."""

import asyncio
import base64
import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import snapshot_restore_py
from mangum.types import LambdaContext

from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import InvalidArgument
from lambda_serving.function.event_call import MAX_ANSWER
from lambda_serving.function.handler import Handler
from support import events
from support.conformance import Case, check, load_cases
from support.litert_cases import litert_cases
from support.server_process import MNIST

_ROOT = Path(__file__).parents[3]
_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:system-half_plus_two"


def _context(alias: str) -> LambdaContext:
    called = SimpleNamespace(aws_request_id="1", invoked_function_arn=f"{_ARN}:{alias}")
    return cast("LambdaContext", called)


_CONTEXT = _context("live")
_CORS = "--rest_api_enable_cors_support=true"


@pytest.fixture(scope="module", autouse=True)
def _event_loop() -> Iterator[None]:
    """The loop that Mangum looks for and, when there is none, makes and never closes."""
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        yield
    asyncio.set_event_loop(None)


@pytest.fixture(scope="module")
def handler(manager: Manager) -> Callable[[tuple[str, ...]], Handler]:
    """Makes the handler over all models of the table, with a server's flags."""
    return cache(partial(_handler, manager))


@pytest.fixture(scope="module")
def litert_handler(tflite_manager: Manager) -> Callable[[tuple[str, ...]], Handler]:
    """As `handler`, over the models that LiteRT serves."""
    return cache(partial(_handler, tflite_manager))


def _handler(manager: Manager, flags: tuple[str, ...]) -> Handler:
    settings = Settings(model_name="half_plus_two", rest_api_enable_cors_support=_CORS in flags)
    return Handler(manager, settings)


@pytest.fixture
def half(handler: Callable[[tuple[str, ...]], Handler]) -> Callable[[Any], Any]:
    """The handler of `half_plus_two`, without its context."""
    return lambda event: handler(())(event, _CONTEXT)


@pytest.mark.parametrize("payload", [events.payload_1, events.payload_2])
@pytest.mark.parametrize("case", load_cases(), ids=attrgetter("name"))
def test_answers_events_as_the_table_says(
    case: Case, payload: Callable[..., Any], handler: Callable[[tuple[str, ...]], Handler]
) -> None:
    event = payload(case.method, case.path, case.headers, case.body)
    status, headers, body = events.answer(handler(case.flags)(event, _CONTEXT))
    check(case, status, headers, b"" if case.method == "HEAD" else body)


@pytest.mark.parametrize("payload", [events.payload_1, events.payload_2])
@pytest.mark.parametrize("case", litert_cases(), ids=attrgetter("name"))
def test_litert_answers_events_as_the_table_says(
    case: Case,
    payload: Callable[..., Any],
    litert_handler: Callable[[tuple[str, ...]], Handler],
) -> None:
    test_answers_events_as_the_table_says(case, payload, litert_handler)


@pytest.mark.parametrize("case", litert_cases(), ids=attrgetter("name"))
def test_litert_answers_direct_invokes_as_tensorflow_does(
    case: Case,
    handler: Callable[[tuple[str, ...]], Handler],
    litert_handler: Callable[[tuple[str, ...]], Handler],
) -> None:
    event = {
        "path": case.path,
        "method": case.method,
        "headers": dict(case.headers),
        "body": base64.b64encode(case.body).decode(),
        "isBase64Encoded": True,
    }
    ours, theirs = (make(case.flags)(event, _CONTEXT) for make in (litert_handler, handler))
    if not case.path.endswith("/metadata"):
        assert ours == theirs


@pytest.mark.parametrize(
    "name",
    [
        "predict",
        "http-api-v1",
        "rest-api-v1",
        "function-url",
        "alb",
        "alb-multi-value",
        "lattice-v1",
        "lattice-v2",
    ],
)
def test_every_kind_of_http_event_is_read(name: str, half: Callable[[Any], Any]) -> None:
    event = events.load(name)
    text = json.dumps(event).replace("models/MLP:predict", "models/half_plus_two:predict")
    event = json.loads(text) | {"body": '{"instances": [1.0]}'}
    assert events.answer(half(event))[::2] == (200, b'{"predictions":[2.5]}')


def test_named_stage_in_the_path_is_passed_over(half: Callable[[Any], Any]) -> None:
    event = events.payload_2("GET", "/prod/v1/models/half_plus_two", {}, b"")
    event["requestContext"]["stage"] = "prod"
    assert half(event)["statusCode"] == 200


def test_direct_invoke_with_a_body_gets_the_bare_document(half: Callable[[Any], Any]) -> None:
    assert half({"instances": [1.0, 2.0]}) == {"predictions": [2.5, 3.0]}
    assert half({"inputs": {"x": [1.0]}}) == {"outputs": [2.5]}
    assert half({"instances": ["x"]})["error"].startswith("Failed to process element: 0")


def test_direct_invoke_with_a_path_gets_status_headers_and_document(
    half: Callable[[Any], Any],
) -> None:
    body = {"instances": [2.0]}
    path = "/v1/models/two_versions/versions/1:predict"
    for event in ({"path": path, "body": body}, {"path": path, "body": json.dumps(body)}):
        answer = half(event)
        assert (answer["statusCode"], answer["body"]) == (200, {"predictions": [3.0]})
        assert answer["headers"]["content-type"] == "application/json"
    status = half({"path": "/v1/models/half_plus_two"})
    assert status["body"]["model_version_status"][0]["state"] == "AVAILABLE"
    assert half({"path": "/v1/models/x:predict", "body": body})["statusCode"] == 404
    assert half({"path": "/elsewhere", "method": "GET"})["statusCode"] == 404


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (None, "but a JSON NoneType"),
        ([1], "but a JSON list"),
        ("text", "but a JSON str"),
        ({"instance": [1.0]}, "Missing 'inputs' or 'instances' key"),
    ],
)
def test_event_that_is_no_request_gets_an_error_document(
    event: Any, error: str, half: Callable[[Any], Any]
) -> None:
    answer = half(event)
    assert list(answer) == ["error"]
    assert error in answer["error"]


@pytest.mark.parametrize(
    "event",
    [
        events.load("s3-notification"),
        events.load("object-created"),
        events.load("stack-status"),
        {"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": '{"instances": [1]}'}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hello"}}]},
        {"Records": []},
        [{"eventSource": "aws:sqs", "messageId": "1", "body": "hello"}],
        {"eventSource": "aws:kafka", "records": {"topic-0": []}},
        {"awslogs": {"data": "H4sI"}},
        {"invocationId": "1", "deliveryStreamArn": "arn", "records": []},
    ],
)
def test_event_whose_sender_reads_no_answer_fails_the_invocation(
    event: Any, half: Callable[[Any], Any]
) -> None:
    """Otherwise a queue would consider its messages processed."""
    with pytest.raises(InvalidArgument, match="only HTTP requests and direct invokes"):
        half(event)
    assert half({"Records": [], "instances": [1.0]}) == {"predictions": [2.5]}


def test_direct_invoke_with_odd_text_or_nesting_gets_an_error(half: Callable[[Any], Any]) -> None:
    odd = {"path": "/v1/models/\ud800", "headers": {"\ud800": "\ud800"}, "body": "\ud800"}
    assert half(odd)["statusCode"] == 400
    nested: Any = 1.0
    for _ in range(100_000):
        nested = [nested]
    assert half({"instances": nested}) == {"error": "The event is nested too deeply"}


def _without(*path: str) -> Any:
    event = events.load("predict")
    inner = event
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return event


@pytest.mark.parametrize(
    "event",
    [
        _without("requestContext", "http"),
        _without("requestContext", "http", "method"),
        events.load("predict") | {"headers": [1]},
        events.load("predict") | {"requestContext": None},
        events.load("predict") | {"body": {"instances": []}},
        events.load("predict") | {"body": "%%%", "isBase64Encoded": True},
        events.load("alb") | {"httpMethod": None},
    ],
)
def test_broken_http_event_gets_400(event: Any, half: Callable[[Any], Any]) -> None:
    status, headers, body = events.answer(half(event))
    assert (status, headers["content-type"]) == (400, "application/json")
    assert list(json.loads(body)) == ["error"]


def test_base64_and_gzip_bodies_are_unpacked(half: Callable[[Any], Any]) -> None:
    body = b'{"instances": [1.0]}'
    target = "/v1/models/half_plus_two:predict"
    zipped = events.payload_2("POST", target, {"content-encoding": "gzip"}, gzip.compress(body))
    encoded = events.payload_2("POST", target, {}, b"")
    encoded |= {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    for event in (zipped, encoded):
        assert events.answer(half(event))[2] == b'{"predictions":[2.5]}'


def test_gzip_answer_comes_as_base64(half: Callable[[Any], Any]) -> None:
    body = json.dumps({"instances": [1.0] * 1000}).encode()
    event = events.payload_2(
        "POST", "/v1/models/half_plus_two:predict", {"accept-encoding": "gzip"}, body
    )
    status, headers, content = events.answer(half(event))
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(content)) == {"predictions": [2.5] * 1000}


def test_answer_over_lambdas_limit_is_413_with_the_way_out(half: Callable[[Any], Any]) -> None:
    body = b'{"instances":[%b]}' % b",".join([b"1"] * (MAX_ANSWER // 4))  # answered 1.0 each
    target = "/v1/models/identity_float64:predict"
    plain = events.payload_2("POST", target, {}, body)
    status, _, content = events.answer(half(plain))
    assert status == 413
    assert json.loads(content)["error"].endswith(
        f"a function can return {MAX_ANSWER}. Send fewer rows in a request, ask for gzip with"
        " Accept-Encoding, or use a server."
    )
    zipped = events.payload_2("POST", target, {"accept-encoding": "gzip"}, body)
    assert events.answer(half(zipped))[0] == 200


def test_metrics_of_each_request_go_to_the_log(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Handler(manager, Settings(model_name="two_versions"), "system")
    for _ in range(2):
        handler({"instances": [1.0]}, _CONTEXT)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [
        (
            line["model"],
            line["version"],
            line["RequestCount"],
            line["ColdStart"],
            len(line["Latency"]),
        )
        for line in lines
    ] == [("two_versions", "2", [1.0], [1.0], 1), ("two_versions", "2", [1.0], [0.0], 1)]
    assert lines[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "LambdaServing"
    assert {line["stack"] for line in lines} == {"system"}


@pytest.mark.parametrize(
    ("verb", "body"),
    [("predict", b'{"instances": [1.0]}'), ("predict", b"{"), ("nothing", b"{}")],
)
def test_fault_of_the_client_is_no_error_of_the_model(
    verb: str, body: bytes, half: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    half(events.payload_2("POST", f"/v1/models/half_plus_two:{verb}", {}, body))
    told = capsys.readouterr().out
    assert ("RequestCount" in told, "ErrorCount" in told) == (True, False)


def test_answer_of_5xx_is_an_error_of_the_model(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(model_name="while_loop", rest_api_timeout_in_ms=300)
    endless = json.dumps({"instances": [2**63 - 1]}).encode()
    event = events.payload_2("POST", "/v1/models/while_loop:predict", {}, endless)
    answer = Handler(manager, settings)(event, _CONTEXT)
    assert answer["statusCode"] >= 500
    [line] = [line for line in capsys.readouterr().out.splitlines() if "ErrorCount" in line]
    assert json.loads(line)["model"] == "while_loop"


def test_random_numbers_are_renewed_after_a_snapshot_is_restored(manager: Manager) -> None:
    Handler(manager, Settings(model_name="half_plus_two"))

    def restored() -> tuple[float, float]:
        """The first random numbers of an environment that is restored from a snapshot taken now."""
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 the generator that everybody shares
        for hook, positional, named in snapshot_restore_py.get_after_restore():
            hook(*positional, **named)
        return random.random(), np.random.random()  # noqa: NPY002, S311 likewise, and no secret

    one, other = restored(), restored()
    assert one[0] != other[0]
    assert one[1] != other[1]


def _start(**environment: str) -> tuple[int, str, str]:
    """The outcome of importing the real handler, as Lambda does."""
    ended = subprocess.run(
        [sys.executable, "-c", "import handler; print(handler.handler({'x': 1}, None))"],
        cwd=_ROOT / "functions/predict",
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_real_handler_takes_its_settings_from_the_environment() -> None:
    code, said, _ = _start(
        MODEL_NAME="MLP", MODEL_BASE_PATH=str(MNIST / "saved"), MODEL_VERSION="1"
    )
    assert code == 0
    assert "Missing 'inputs' or 'instances' key" in said


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "Which model?"),
        ({"MODEL_CONFIG_FILE": "/dev/null"}, "The config file /dev/null has no models"),
        ({"MODEL_BASE_PATH": str(MNIST / "digits")}, "No versions of servable default found"),
        (
            {"MODEL_BASE_PATH": str(MNIST / "saved"), "MODEL_VERSION": "7"},
            "Version 7 of servable default is not under base path",
        ),
        (
            {"MODEL_BASE_PATH": str(MNIST / "saved"), "MODEL_VERSION": "seven"},
            "MODEL_VERSION is 'seven'; it must be a whole number",
        ),
        ({"MODEL_BASE_PATH": "/x", "ENABLE_MODEL_WARMUP": "maybe"}, "must be true or false"),
        ({"MODEL_BASE_PATH": "/x", "REST_API_MAX_BODY_BYTES": "0"}, "must be at least 1"),
    ],
)
def test_failing_start_ends_with_the_sentence_that_says_why(
    environment: dict[str, str], reason: str
) -> None:
    code, _, said = _start(**environment)
    assert code == 1
    assert reason in said.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("alias", "path", "status"),
    [
        ("label-stable", "/labels/stable", 200),
        ("label-stable", "/labels/stable/metadata", 200),
        ("label-stable", "/labels/stables/metadata", 400),
        ("label-stable", "/labels/canary/metadata", 400),
        ("live", "/labels/stable/metadata", 400),
        ("version-123", "/versions/123", 200),
        ("version-123", "/versions/124", 404),
    ],
)
def test_alias_of_a_label_stands_for_that_label(
    alias: str, path: str, status: int, handler: Callable[[tuple[str, ...]], Handler]
) -> None:
    event = events.payload_2("GET", f"/v1/models/half_plus_two{path}", {}, b"")
    assert handler(())(event, _context(alias))["statusCode"] == status


def test_predict_by_label_answers_as_its_version(
    handler: Callable[[tuple[str, ...]], Handler],
) -> None:
    path = "/v1/models/half_plus_two/labels/stable:predict"
    event = events.payload_2("POST", path, {}, b'{"instances": [1.0]}')
    answer = handler(())(event, _context("label-stable"))
    assert json.loads(answer["body"]) == {"predictions": [2.5]}


@pytest.mark.parametrize("context", [None, {}, SimpleNamespace(invoked_function_arn=None)])
def test_context_may_be_left_out(
    context: Any, handler: Callable[[tuple[str, ...]], Handler]
) -> None:
    event = events.payload_2("GET", "/v1/models/half_plus_two", {}, b"")
    assert handler(())(event, context)["statusCode"] == 200
