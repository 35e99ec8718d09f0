import json

import pytest

from lambda_serving import errors as serving_errors
from lambda_serving.api.rest import http_status
from lambda_serving.errors import ServingError
from lambda_serving.store.completeness import Incomplete


def _classes(base: type[ServingError]) -> list[type[ServingError]]:
    return [base_class for sub in base.__subclasses__() for base_class in (sub, *_classes(sub))]


def test_every_error_has_a_status() -> None:
    classes = [
        each for each in _classes(ServingError) if each.__module__ == ServingError.__module__
    ]
    assert {error.__name__: http_status.status_of(error("")) for error in classes} == {
        "Cancelled": 499,
        "Unknown": 500,
        "InvalidArgument": 400,
        "DeadlineExceeded": 504,
        "NotFound": 404,
        "AlreadyExists": 409,
        "PermissionDenied": 403,
        "ResourceExhausted": 429,
        "PayloadTooLarge": 413,
        "DiskFull": 429,
        "FailedPrecondition": 400,
        "Aborted": 409,
        "OutOfRange": 400,
        "Unimplemented": 501,
        "Internal": 500,
        "Unavailable": 503,
        "DataLoss": 500,
        "Unauthenticated": 401,
    }


def test_error_of_another_module_has_the_status_of_its_code() -> None:
    assert http_status.status_of(Incomplete("")) == 503


def test_every_canonical_code_has_an_error() -> None:
    assert {error.code for error in _classes(ServingError)} == set(serving_errors.Code)


@pytest.mark.parametrize("message", ["plain", 'quote " and \n', "", "\udcff lone surrogate"])
def test_body_is_json_whatever_the_message(message: str) -> None:
    expected = message.encode("utf-8", "replace").decode()
    assert json.loads(http_status.body(message)) == {"error": expected}
