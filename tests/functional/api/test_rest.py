"""What the REST application does beside the conformance table: limits, health, compression."""

import asyncio
import gzip
import logging
import subprocess
import sys
import tracemalloc
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import Application, create_app
from lambda_serving.api.rest.app import PAGES
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Loaded, Manager
from lambda_serving.model_spec import ModelSpec
from lambda_serving.servables import saved_model
from lambda_serving.store import LocalStore
from support.asgi import ask
from support.server_process import MNIST

_JSON = "application/json"
_HALF = "/v1/models/half_plus_two:predict"


@pytest.fixture(scope="session")
def small(manager: Manager) -> Application:
    """An application with limits that a test can reach."""
    settings = Settings(
        rest_api_max_body_bytes=1000, rest_api_max_unzipped_bytes=5000, rest_api_max_nesting=20
    )
    return create_app(manager, settings)


@pytest.fixture(scope="session")
def large(manager: Manager) -> Application:
    return create_app(manager)


def test_body_over_the_limit_is_413_and_says_which_flag(small: Application) -> None:
    answer = ask(small, "POST", _HALF, content=b" " * 1001)
    assert (answer.status_code, answer.json()) == (
        413,
        {
            "error": "The request body is over 1000 bytes (--rest_api_max_body_bytes)."
            " Send fewer rows in a request, or raise the limit."
        },
    )


def test_body_in_chunks_over_the_limit_is_413(small: Application) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 100

    assert ask(small, "POST", _HALF, content=chunks()).status_code == 413


def test_body_at_the_limit_is_read(small: Application) -> None:
    body = b'{"instances": [1.0]}'.ljust(1000)
    assert ask(small, "POST", _HALF, content=body).json() == {"predictions": [2.5]}


def _gzip(body: bytes, app: Application) -> httpx.Response:
    return ask(
        app, "POST", _HALF, content=gzip.compress(body), headers={"Content-Encoding": "gzip"}
    )


def test_gzip_bomb_is_413_and_never_unpacked_whole(small: Application) -> None:
    bomb = gzip.compress(b" " * 50_000_000)[:1000]
    tracemalloc.start()
    answer = ask(small, "POST", _HALF, content=bomb, headers={"Content-Encoding": "gzip"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code == 413
    assert "--rest_api_max_unzipped_bytes" in answer.json()["error"]
    assert peak < 5_000_000


def test_gzip_body_at_the_limit_is_read(small: Application) -> None:
    assert _gzip(b'{"instances": [1.0]}'.ljust(5000), small).json() == {"predictions": [2.5]}


def test_truncated_gzip_counts_as_an_empty_body(small: Application) -> None:
    body = gzip.compress(b'{"instances": [1.0]}')[:-4]
    answer = ask(small, "POST", _HALF, content=body, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "JSON Parse error: The document is empty"},
    )


def test_nesting_over_the_limit_is_refused(small: Application, large: Application) -> None:
    body = b'{"instances": ' + b"[" * 40 + b"1.0" + b"]" * 40 + b"}"
    refused = ask(small, "POST", "/v1/models/identity_float32:predict", content=body)
    assert refused.status_code == 400
    assert "20" in refused.json()["error"]
    deep = b"[" * 1_000_000
    assert ask(large, "POST", _HALF, content=b'{"instances": ' + deep).status_code == 400


def test_run_over_the_timeout_is_504(manager: Manager) -> None:
    hurried = create_app(manager, Settings(rest_api_timeout_in_ms=50))
    answer = ask(hurried, "POST", "/v1/models/while_loop:predict", json={"inputs": _ENDLESS})
    assert answer.status_code == 504
    assert answer.json()["error"]


_ENDLESS = [2**63 - 1]  # doubling overflows to 0 and stays there


def test_large_answers_are_zipped_when_asked_for(large: Application) -> None:
    body = {"instances": [float(i) for i in range(1000)]}
    zipped = ask(large, "POST", _HALF, json=body, headers={"Accept-Encoding": "gzip"})
    plain = ask(large, "POST", _HALF, json=body, headers={"Accept-Encoding": "identity"})
    small_one = ask(large, "POST", _HALF, json={"instances": [1.0]})
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.headers["vary"] == "Accept-Encoding"
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"])
    assert zipped.json() == plain.json()
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in small_one.headers


def test_health_and_readiness(large: Application) -> None:
    assert ask(large, "GET", "/healthz").json() == {"status": "ok"}
    assert ask(large, "GET", "/readyz").json() == {"status": "ready"}
    empty = create_app(Manager(LocalStore({}), saved_model.load))
    answer = ask(empty, "GET", "/readyz")
    assert (answer.status_code, answer.json()) == (503, {"error": "Not ready."})


def test_pages_are_what_fastapi_routes_and_nothing_else(large: Application) -> None:
    assert {route.path for route in large.pages.routes if isinstance(route, Route)} == PAGES


def test_predicting_does_not_import_fastapi() -> None:
    program = """
import sys
from lambda_serving import function
from lambda_serving.config.server_flags import Settings

handler = function.start(Settings(model_name="m", model_base_path=sys.argv[1]))
answer = handler({"instances": [1]}, None)
print("error" in answer, "fastapi" in sys.modules, "tensorflow" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, MNIST / "saved"], capture_output=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == b"True False False"


def test_wrong_method_on_our_own_routes_has_our_error_body(large: Application) -> None:
    answer = ask(large, "POST", "/healthz")
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})


def test_openapi_page_lists_every_route_with_bodies_that_answer(large: Application) -> None:
    paths = ask(large, "GET", "/openapi.json").json()["paths"]
    assert {"/healthz", "/readyz", "/v1/models/multi", "/v1/models/multi/metadata"} <= paths.keys()
    operation = paths["/v1/models/multi:predict"]["post"]
    examples = operation["requestBody"]["content"][_JSON]["examples"]
    assert set(examples) == {"serving_default, rows", "serving_default, columns"}
    for example in examples.values():
        answer = ask(large, "POST", "/v1/models/multi:predict", json=example["value"])
        assert answer.status_code == 200, answer.text
    assert ask(large, "GET", "/docs").status_code == 200


def test_predictions_run_in_threads(manager: Manager) -> None:
    with Threads(1, "predict") as threads:
        app = create_app(manager, Settings(), threads)
        answer = ask(app, "POST", _HALF, json={"instances": [1.0]})
    assert answer.json() == {"predictions": [2.5]}


class _BrokenManager(Manager):
    """Fails as nobody foresaw."""

    def get(self, spec: ModelSpec) -> Loaded:
        assert spec
        raise ZeroDivisionError("secret")


def test_unforeseen_failure_is_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(_BrokenManager(LocalStore({}), saved_model.load))
    with caplog.at_level(logging.ERROR):
        answer = ask(app, "POST", _HALF, json={"instances": [1.0]})
    assert "ZeroDivisionError: secret" in caplog.text
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "The server failed on this request. Its log has the reason."},
    )


def test_client_that_goes_away_gets_no_answer_and_no_traceback(large: Application) -> None:
    sent = []

    async def run() -> None:
        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        scope = {
            "type": "http",
            "method": "POST",
            "path": _HALF,
            "raw_path": _HALF.encode(),
            "query_string": b"",
            "headers": [],
        }
        await large(scope, receive, send)

    asyncio.run(run())
    assert sent == ["http.response.start", "http.response.body"]


def test_cors_headers_come_with_every_answer_below_v1(manager: Manager) -> None:
    app = create_app(manager, Settings(rest_api_enable_cors_support=True))
    for method, path in (("POST", _HALF), ("GET", "/v1/models/x"), ("OPTIONS", "/v1/x")):
        headers = ask(app, method, path, headers={"Origin": "https://a.example"}).headers
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-methods"] == "POST, GET"
        assert headers["access-control-allow-headers"] == "Content-Type"
    assert "access-control-allow-origin" not in ask(app, "GET", "/elsewhere").headers


@pytest.mark.parametrize("status", ["400", "404", "413", "504"])
def test_documented_failures_have_the_error_body(large: Application, status: str) -> None:
    paths = ask(large, "GET", "/openapi.json").json()["paths"]
    responses = paths["/v1/models/multi:predict"]["post"]["responses"]
    assert responses[status]["content"][_JSON]["schema"]["required"] == ["error"]
