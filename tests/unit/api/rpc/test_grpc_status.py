import grpc
import pytest

from lambda_serving.api.rpc import grpc_status
from lambda_serving.errors import Code, InvalidArgument


def test_canonical_codes_are_grpcs() -> None:
    names = {status.name: status.value[0] for status in grpc.StatusCode}
    assert names == {"OK": grpc_status.OK, **{code.name: code for code in Code}}


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
