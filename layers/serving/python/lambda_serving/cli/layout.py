"""Text in the columns that there are: a word is never cut, and no line is longer than it must be.

A word that is longer than a line has one to itself.
"""

import shutil
from collections.abc import Iterable, Sequence

import click

from lambda_serving.cli.console import UNBOUNDED, plain_console, printable

__all__ = ["show_rows", "show_text", "wrapped"]

_LEAST = 20


def show_text(*pieces: str, indent: int = 0, first: str = "", color: str | None = None) -> None:
    """Prints pieces of text side by side, in lines that begin with `indent` blanks.

    The first line begins with `first`. A piece is split at its blanks only if it does not fit.
    """
    click.secho(wrapped(pieces, _columns(), indent, first), fg=color)


def wrapped(pieces: Iterable[str], columns: int, indent: int = 0, first: str = "") -> str:
    """The lines that `show_text` prints."""
    from rich.cells import cell_len

    room = max(columns, _LEAST) - indent
    lines, left = list[str](), -1
    for word in _words(pieces, room):
        if cell_len(word) + 1 > left:
            lines.append(word)
            left = room - cell_len(word)
        else:
            lines[-1] += f" {word}"
            left -= cell_len(word) + 1
    lead = first.ljust(indent)
    return "\n".join(f"{' ' * indent if n else lead}{line}" for n, line in enumerate(lines or [""]))


def _words(pieces: Iterable[str], room: int) -> Iterable[str]:
    from rich.cells import cell_len

    for piece in pieces:
        whole = printable(piece)
        yield from [whole] if cell_len(whole) <= room else whole.split(" ")


def show_rows(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; where the columns do not suffice, a block of lines for each row.

    A block begins with the row's first cell, and leaves out empty ones.
    """
    from rich.table import Table

    shown = [[printable(cell) for cell in row] for row in rows]
    table = Table()
    for title in titles:
        table.add_column(title, no_wrap=True)
    for row in shown:
        table.add_row(*row)
    console = plain_console()
    if console.measure(table, options=console.options.update(max_width=UNBOUNDED)).maximum <= (
        console.width
    ):
        console.print(table)
        return
    for row in shown:
        _show_block(titles, row)


def _show_block(titles: Sequence[str], row: Sequence[str]) -> None:
    show_text(f"{titles[0]} {row[0]}".strip())
    indent = 4 + max(map(len, titles))
    for title, cell in zip(titles[1:], row[1:], strict=True):
        if cell:
            show_text(cell, indent=indent, first=f"  {title}")


def _columns() -> int:
    """The columns of the terminal, or `COLUMNS`; many for a file or a pipe."""
    return shutil.get_terminal_size((UNBOUNDED, 0)).columns
