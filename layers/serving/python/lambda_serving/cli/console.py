"""What commands print: names from users and models appear exactly as given."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Protocol, Self

import click

if TYPE_CHECKING:  # see cli.inspect
    from rich.console import Console
    from rich.progress import ProgressColumn
    from rich.table import Table

__all__ = ["UNBOUNDED", "Stages", "plain_console", "printable", "quiet", "stages", "table"]

UNBOUNDED = 100_000
"""The columns of a line that goes to a file or a pipe."""
_PATIENCE_SECONDS = 1.0
_AGAIN_SECONDS = 60.0
_SAY = partial(click.echo, err=True)
_Show = Callable[[str, int, int], None]
_Size = Callable[[int, int], str]


class Stages(Protocol):
    """Reports a stage and, where its size is known, how much of it is done."""

    def __call__(self, stage: str, done: int = 0, total: int = 0, /) -> None: ...


def quiet() -> None:
    """Silences TensorFlow and our warnings; call it before TensorFlow is loaded."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("lambda_serving").setLevel(logging.ERROR)


def plain_console(*, stderr: bool = False) -> "Console":
    """A console that prints text as is, without markup, emoji or highlighting.

    Without a terminal, lines have no maximum width.
    """
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console


def _mebibytes(done: int, total: int) -> str:
    """How much of a copy is done."""
    return f"{done / 2**20:.1f} of {total / 2**20:.1f} MiB"


@contextmanager
def stages(
    title: str,
    *columns: "ProgressColumn",
    size: _Size = _mebibytes,
    patience: float = _PATIENCE_SECONDS,
    say: Callable[[str], None] = _SAY,
) -> Iterator[Stages]:
    """Yields a function that is told each stage of the work; every command shows progress by it.

    On a terminal one line is redrawn, with these columns of rich. Elsewhere `say` prints a line
    about a stage that lasts for `patience` seconds, with how much is done in words of `size`, and
    again every minute.
    """
    title = printable(title)
    if sys.stderr.isatty():
        with _moving_line(title, *columns) as show:
            yield lambda stage, done=0, total=0: show(f"{stage} ({title})", done, total)
        return
    with _Lines(title, size, patience, say) as lines:
        yield lines


@contextmanager
def _moving_line(text: str, *columns: "ProgressColumn") -> Iterator[_Show]:
    """Yields a function that redraws a terminal's last line: the columns, then the text.

    The function takes a new text, how much is done, and the total, 0 if unknown.
    """
    from rich.progress import Progress, SpinnerColumn, TextColumn

    words = TextColumn("{task.description}", markup=False)
    shown = (*(columns or (SpinnerColumn(),)), words)
    with Progress(
        *shown,
        console=plain_console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file stays out of the terminal
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda text, done, total: bar.update(
            task, description=printable(text), completed=done, total=total or None
        )


class _Lines:
    """Prints a stage once it has lasted for some seconds, by a thread that watches the time."""

    def __init__(
        self, title: str, size: _Size, patience: float, say: Callable[[str], None]
    ) -> None:
        self._title, self._size, self._patience, self._say = title, size, patience, say
        self._changed = Condition()
        self._stage, self._done, self._total, self._since = "", 0, 0, monotonic()
        self._ended = False
        self._thread = Thread(target=self._watch, daemon=True)

    def __call__(self, stage: str, done: int = 0, total: int = 0, /) -> None:
        with self._changed:
            if stage != self._stage:
                self._stage, self._since = stage, monotonic()
                self._changed.notify()
            self._done, self._total = done, total

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            pause = self._patience
            while not self._ended:
                stage = self._stage
                is_over = self._changed.wait_for(partial(self._left, stage), pause)
                pause = self._patience if is_over else _AGAIN_SECONDS
                if stage and not is_over:
                    self._print()

    def _left(self, stage: str) -> bool:
        return self._ended or self._stage != stage

    def _print(self) -> None:
        size = f" {self._size(self._done, self._total)}" if self._total else ""
        seconds = monotonic() - self._since
        self._say(f"{self._title}: {printable(self._stage)}{size} ({seconds:.0f} s)")


def table(*titles: str) -> "Table":
    """A table whose long cells wrap and are never cut off."""
    from rich.table import Table

    made = Table()
    for title in titles:
        made.add_column(title, overflow="fold")
    return made


def printable(text: str) -> str:
    """The text with control and invisible characters escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
