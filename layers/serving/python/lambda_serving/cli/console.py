"""What commands print with rich: names that users and models gave, exactly as they are."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # see cli.inspect
    from rich.console import Console
    from rich.table import Table

__all__ = ["plain_console", "printable", "table"]

_UNBOUNDED = 100_000


def plain_console(*, stderr: bool = False) -> "Console":
    """A console that takes nothing it prints for markup, emoji or values to colour.

    Lines have no bound where no terminal gives them one.
    """
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBOUNDED
    return console


def table(*titles: str) -> "Table":
    """A table whose cells go on in the next line where they are too long, and are never cut."""
    from rich.table import Table

    made = Table()
    for title in titles:
        made.add_column(title, overflow="fold")
    return made


def printable(text: str) -> str:
    """The text with escapes in place of what a terminal would obey or not show."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
