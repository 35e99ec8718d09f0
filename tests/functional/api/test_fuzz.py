"""Requests that nobody would write on purpose: each is answered, in the documented way."""

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_serving.api.rest import Application, create_app
from lambda_serving.core.basic_manager import Manager
from support.asgi import ask

_MODELS = ("half_plus_two", "multi", "identity_string", "identity_bool", "shapes", "examples")
_VERBS = ("predict", "classify", "regress")
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([{"b64": "aGk="}, {"b64": "?"}, {"b64": 1}, 2**70, "\ud800"]),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["x", "b64", "int_tensor", "inputs"]),
            values,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_BODIES = st.dictionaries(
    st.sampled_from(["instances", "inputs", "signature_name", "examples", "context", "other"]),
    _JSON,
).map(lambda body: json.dumps(body).encode())


@pytest.fixture(scope="module")
def fuzzed(manager: Manager) -> Application:
    return create_app(manager)


@pytest.fixture(scope="module")
def schema(fuzzed: Application) -> schemathesis.schemas.BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", fuzzed)


def _expect_a_clean_answer(app: Application, path: str, body: bytes) -> None:
    """Expects 200, or a client error with a message."""
    answer = ask(app, "POST", path, content=body)
    if answer.status_code != 200:
        assert answer.status_code in {400, 404, 413, 501}, answer.text
        assert list(answer.json()) == ["error"]
        assert "Traceback" not in answer.text


@given(st.sampled_from(_MODELS), st.sampled_from(_VERBS), _BODIES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_json_of_wrong_types_is_answered(
    fuzzed: Application, model: str, verb: str, body: bytes
) -> None:
    _expect_a_clean_answer(fuzzed, f"/v1/models/{model}:{verb}", body)


@given(st.sampled_from(_MODELS), st.sampled_from(_VERBS), st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_answered(fuzzed: Application, model: str, verb: str, body: bytes) -> None:
    _expect_a_clean_answer(fuzzed, f"/v1/models/{model}:{verb}", body)


_GOOD = b'{"signature_name": "serving_default", "instances": [{"x": [1.5, -2e3]}, {"x": [0, NaN]}]}'


@given(st.integers(0, len(_GOOD)), st.integers(0, len(_GOOD)), st.binary(max_size=3))
@settings(max_examples=300, deadline=None)
def test_a_good_request_cut_or_altered_anywhere_is_answered(
    fuzzed: Application, start: int, length: int, patch: bytes
) -> None:
    body = _GOOD[:start] + patch + _GOOD[start + length :]
    _expect_a_clean_answer(fuzzed, "/v1/models/half_plus_two:predict", body)


_CHECKS = (
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/v1/models/multi"),
        ("GET", "/v1/models/multi/versions/{version}"),
        ("GET", "/v1/models/multi/labels/{label}/metadata"),
        ("POST", "/v1/models/multi:predict"),
        ("POST", "/v1/models/half_plus_two/versions/{version}:predict"),
        ("POST", "/v1/models/examples/labels/{label}:classify"),
        ("POST", "/v1/models/examples:regress"),
    ],
)
def test_answers_as_the_openapi_page_says(
    schema: schemathesis.schemas.BaseSchema, method: str, path: str
) -> None:
    @given(schema[path][method].as_strategy())
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    def answer_conforms(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(checks=list(_CHECKS))

    answer_conforms()
