"""What is told of a process that failed."""

import pytest

from lambda_serving.compile.freezing import _reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "it said nothing"),
        ("one\ntwo\n", "two"),
        (
            "Traceback\n  File\ntensorflow.errors_impl.InternalError: no\n\t [[node]]\n",
            "tensorflow.errors_impl.InternalError: no",
        ),
        (
            "F0000 00:00 tensor.cc:1014] Type not set\n    @ 0x7f\n",
            "F0000 00:00 tensor.cc:1014] Type not set",
        ),
        ("ValueError: " + 1000 * "x", "ValueError: " + 488 * "x"),
    ],
)
def test_the_line_that_tells_is_told(said: str, reason: str) -> None:
    assert _reason(said) == reason
