"""The reasons given for a process that failed."""

import signal

import pytest

from lambda_serving.compile.freezer import _reason


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (1, ". The report has its output under details"),
        (-signal.SIGKILL, ": its process was killed, as happens when memory runs out"),
        (-signal.SIGABRT, ": its process ended by signal 6"),
    ],
)
def test_stage_and_end_are_told_in_our_words(code: int, told: str) -> None:
    assert _reason("optimising", code) == f"TensorFlow failed while optimising{told}"
