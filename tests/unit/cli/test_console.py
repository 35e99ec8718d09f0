"""Where no terminal is, a step that lasts is a line."""

import queue
import re
from collections.abc import Callable

import pytest

from lambda_serving.cli.console import stages

_LONG = 1e6  # seconds that no test lasts
_SECONDS = 60  # in which a thread has had its turn


def _next(lines: "queue.Queue[str]") -> str:
    return re.sub(r"\(\d+ s\)", "(N s)", lines.get(timeout=_SECONDS))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> "queue.Queue[str]":
    """What is said where no terminal is."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    return queue.Queue()


def test_stage_that_lasts_is_told_with_how_much_is_done(lines: "queue.Queue[str]") -> None:
    with stages("a -> b", patience=0, say=lines.put) as progress:
        progress("reading")
        assert _next(lines) == "a -> b: reading (N s)"
        progress("reading", 2**20, 2**22)
        progress("copying", 2**20, 2**22)
        assert re.fullmatch(r"a -> b: copying( 1.0 of 4.0 MiB)? \(N s\)", _next(lines))
    assert lines.empty()


def test_stages_that_do_not_last_are_not_told(lines: "queue.Queue[str]") -> None:
    with stages("a", patience=_LONG, say=lines.put) as progress:
        for stage in ("one", "two"):
            progress(stage)
    assert lines.empty()


def test_size_is_told_in_the_words_of_the_command(lines: "queue.Queue[str]") -> None:
    size: Callable[[int, int], str] = "{}/{} files".format
    with stages("a", patience=0, size=size, say=lines.put) as progress:
        progress("b\x1b", 1, 3)
        assert re.fullmatch(r"a: b\\x1b( 1/3 files)? \(N s\)", _next(lines))


def test_error_ends_the_thread_that_tells(lines: "queue.Queue[str]") -> None:
    def fail() -> None:
        with stages("a", patience=_LONG, say=lines.put) as progress:
            progress("b")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fail()
    assert lines.empty()
