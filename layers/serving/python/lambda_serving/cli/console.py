"""What commands print: names from users and models appear exactly as given."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:  # see cli.inspect
    from rich.console import Console
    from rich.progress import ProgressColumn
    from rich.table import Table

__all__ = ["Stages", "moving_line", "plain_console", "printable", "quiet", "stages", "table"]

_UNBOUNDED = 100_000
_QUIET_SECONDS = 2.0
_Show = Callable[[str, int, int], None]


class Stages(Protocol):
    """Reports a stage and, where it has a known size, how many bytes are done."""

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
        console.width = _UNBOUNDED
    return console


@contextmanager
def moving_line(text: str, *columns: "ProgressColumn") -> Iterator[_Show | None]:
    """Yields a function that redraws a terminal's last line: the columns, then the text.

    The function takes a new text, how much is done, and the total (0 if unknown). Without a
    terminal, yields None.
    """
    from rich.progress import Progress, TextColumn

    console = plain_console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    words = TextColumn("{task.description}", markup=False)
    with Progress(*columns, words, console=console, transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda text, done, total: bar.update(
            task, description=text, completed=done, total=total or None
        )


@contextmanager
def stages(title: str, *columns: "ProgressColumn") -> Iterator[Stages]:
    """Yields a function that shows which stage the work is in.

    On a terminal one line is redrawn; elsewhere each stage that starts after the first two seconds
    is printed on a line of its own.
    """
    start, seen = monotonic(), set[str]()
    with moving_line(title, *columns) as show:

        def tell(stage: str, done: int = 0, total: int = 0, /) -> None:
            if show:
                show(f"{title}: {stage}", done, total)
            elif stage not in seen and (seconds := monotonic() - start) > _QUIET_SECONDS:
                seen.add(stage)
                size = f" {total / 2**20:.1f} MiB" if total else ""
                click.echo(f"{title}: {stage}{size} ({seconds:.0f} s)", err=True)

        yield tell


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
