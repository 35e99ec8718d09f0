"""Temporary folders when a signal arrives, at each step of the interpreter in turn."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

from lambda_serving.compile.folders import written_whole
from lambda_serving.store import temporary
from lambda_serving.store.job_files import open_outputs
from lambda_serving.store.local_push_target import LocalVersion
from lambda_serving.store.manifest import PUSH, Manifest

_MOST_STEPS = 5000
_TRACED = ("contextlib.py", "temporary.py", "folders.py", "files.py", "local.py", "layer.py")
"""Files whose steps count; in what they call, a signal comes at its end."""


class _Signal:
    """Raises SIGINT at the `number`th step inside the block, if there are so many.

    A step is a line, or an opcode.
    """

    def __init__(self, number: int, *, each_opcode: bool) -> None:
        self._left = number
        self._each_opcode = each_opcode
        self.came = False

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, *_: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if code is _Signal.__exit__.__code__ or not code.co_filename.endswith(_TRACED):
            return None
        frame.f_trace_opcodes = self._each_opcode
        return self._step

    def _step(self, _: FrameType, event: str, __: object) -> Callable[..., Any]:
        if event in {"opcode", "line"}:
            self._left -= 1
            if self._left == 0:
                self.came = True
                signal.raise_signal(signal.SIGINT)
        return self._step


def _interrupted_everywhere(
    work: Callable[[], object], left: Callable[[], object], *, each_opcode: bool
) -> int:
    """About how many steps `work` has; after a signal there is nothing `left`.

    The signal comes at each opcode, else at every third line.
    """
    for number in count(1, 1 if each_opcode else 3):
        try:
            with _Signal(number, each_opcode=each_opcode) as sent:
                work()
        except KeyboardInterrupt:
            pass
        assert not left(), f"after a signal at step {number}"
        if not sent.came:
            return number
        assert number < _MOST_STEPS
    raise AssertionError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the system has for temporary ones."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def _folder(_: Path) -> None:
    with temporary.folder() as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").touch()


def _file(_: Path) -> None:
    with temporary.file() as file:
        file.write(b"content")


def _compiled(beside: Path) -> None:
    with written_whole(beside / "compiled") as folder:
        (folder / "file").touch()
        raise KeyboardInterrupt


def _pushed(beside: Path) -> None:
    LocalVersion(beside / "1").put_manifest(PUSH, Manifest({}))


def _predicted(beside: Path) -> None:
    with open_outputs(str(beside / "out")).put("a.jsonl") as path:
        path.touch()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # open, unnamed
@pytest.mark.parametrize("work", [_folder, _file, _compiled, _pushed, _predicted])
def test_signal_at_any_step_leaves_nothing_half_made(
    work: Callable[[Path], None], tmp_path: Path, place: Path
) -> None:
    beside = tmp_path / "beside"
    (beside / "source").mkdir(parents=True)
    whole = {"beside", "source", "tmp", "out", "1", "a.jsonl", PUSH}

    def left() -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.name not in whole]

    finely = work is _folder
    assert _interrupted_everywhere(lambda: work(beside), left, each_opcode=finely) > 50
    assert list(place.iterdir()) == []


def test_folder_is_this_users_alone_and_gone_after_an_error(place: Path) -> None:
    with pytest.raises(ValueError, match="an error"), temporary.folder("a-") as folder:  # noqa: PT012
        assert folder.parent == place
        assert folder.name.startswith("a-")
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "read only").mkdir(0o500)
        raise ValueError("an error")
    assert list(place.iterdir()) == []


def test_signal_that_comes_while_a_folder_is_removed_is_heard_when_it_is_gone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def interrupted(path: Path, *, ignore_errors: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), temporary.folder() as folder:
        (folder / "file").touch()
    assert list(place.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_finished_folder_is_kept_unless_another_was_first(tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "target"
    for content in ("first", "second"):
        made.mkdir()
        (made / "file").write_text(content)
        temporary.keep(made, target)
        assert (target / "file").read_text() == "first"
    assert made.exists()


def test_folder_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        temporary.keep(tmp_path / "made", tmp_path / "target")
