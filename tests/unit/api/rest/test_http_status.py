import json

import pytest

from lambda_serving import errors as serving_errors
from lambda_serving.api.rest import http_status
from lambda_serving.errors import PayloadTooLarge, ResourceExhausted, ServingError
from lambda_serving.store.completeness import Incomplete


def _classes(base: type[ServingError]) -> list[type[ServingError]]:
    return [base_class for sub in base.__subclasses__() for base_class in (sub, *_classes(sub))]


def test_every_error_has_a_status_of_failures() -> None:
    assert {http_status.status_of(error("")) // 100 for error in _classes(ServingError)} == {4, 5}


def test_request_over_a_size_limit_is_413_and_no_other_exhaustion_is() -> None:
    assert http_status.status_of(PayloadTooLarge("")) == 413
    assert http_status.status_of(ResourceExhausted("")) == 429


def test_error_of_another_module_has_the_status_of_its_code() -> None:
    assert http_status.status_of(Incomplete("")) == 503


def test_every_canonical_code_has_an_error() -> None:
    assert {error.code for error in _classes(ServingError)} == set(serving_errors.Code)


@pytest.mark.parametrize("message", ["plain", 'quote " and \n', "", "\udcff lone surrogate"])
def test_body_is_json_whatever_the_message(message: str) -> None:
    expected = message.encode("utf-8", "replace").decode()
    assert json.loads(http_status.body(message)) == {"error": expected}
