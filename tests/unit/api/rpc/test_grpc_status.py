import grpc
import pytest

from lambda_serving import errors as serving_errors
from lambda_serving.api.rpc import grpc_status
from lambda_serving.errors import InvalidArgument, ServingError


def _classes(base: type[ServingError]) -> list[type[ServingError]]:
    return [base_class for sub in base.__subclasses__() for base_class in (sub, *_classes(sub))]


@pytest.mark.parametrize("error", _classes(ServingError))
def test_every_error_has_the_status_of_its_code(error: type[ServingError]) -> None:
    name = serving_errors.Code(error.code).name
    assert grpc_status.code_of(error("")) == grpc.StatusCode[name].value[0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("no model", "no model"),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024 + "...TRUNCATED"),
        ("é" * 513, "é" * 512 + "...TRUNCATED"),
        ("x" + "é" * 512, "x" + "é" * 511 + "...TRUNCATED"),
        ("\udcff", "?"),
    ],
)
def test_messages_are_utf_8_of_bounded_length(said: str, message: str) -> None:
    assert grpc_status.message(InvalidArgument(said)) == message
