"""The tree of errors and the canonical codes."""

import pytest
from grpc import StatusCode

from lambda_serving.errors import (
    Code,
    PayloadTooLarge,
    ResourceExhausted,
    ServingError,
    Unknown,
    of_code,
)


def test_codes_are_those_of_grpc() -> None:
    numbers = {status.name: status.value[0] for status in StatusCode}
    assert {code.name: int(code) for code in Code} == {
        name: number for name, number in numbers.items() if name != "OK"
    }


@pytest.mark.parametrize("code", Code)
def test_every_code_has_the_class_of_its_name(code: Code) -> None:
    error = of_code(code, "the sentence")
    assert (type(error).__name__, error.code, str(error)) == (
        code.name.title().replace("_", ""),
        code,
        "the sentence",
    )


@pytest.mark.parametrize("code", [-1, 0, 17, 1000])
def test_number_that_is_no_code_is_unknown(code: int) -> None:
    error = of_code(code, "odd")
    assert (type(error), str(error)) == (Unknown, "odd")


def test_each_code_belongs_to_one_class() -> None:
    assert sorted(error.code for error in ServingError.__subclasses__()) == sorted(Code)


def test_payload_too_large_is_a_resource_exhausted_of_its_own() -> None:
    assert issubclass(PayloadTooLarge, ResourceExhausted)
    assert type(of_code(Code.RESOURCE_EXHAUSTED, "")) is ResourceExhausted
