"""Options of the commands that load a model before they do something with it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

__all__ = ["loading"]

_Command = TypeVar("_Command", bound=Callable[..., object])
_LOADING = (
    click.option(
        "--saved_model_tags",
        default="serve",
        show_default=True,
        help="Tags of the meta graph, comma-separated",
    ),
    click.option("--op_libraries", default="", help="Custom op libraries, comma-separated paths"),
    click.option(
        "--cache_dir",
        type=click.Path(path_type=Path),
        help="Where exports made loadable are kept (default: user cache)",
    ),
)


def loading(command: _Command) -> _Command:
    """Adds `saved_model_tags`, `op_libraries` and `cache_dir` to a command."""
    for option in reversed(_LOADING):
        command = option(command)
    return command
