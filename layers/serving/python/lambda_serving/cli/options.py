"""Options of the commands that load a model before they use it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_serving.cli.console import quiet

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.servables.servable import Servable

__all__ = ["Loading", "loading", "split"]

_LOADING = (
    click.option(
        "--saved_model_tags",
        default="serve",
        show_default=True,
        help="Comma-separated tags of the meta graph to load",
    ),
    click.option("--op_libraries", default="", help="Comma-separated paths of custom op libraries"),
    click.option(
        "--cache_dir",
        type=click.Path(path_type=Path),
        help="Where to keep exports that had to be made loadable (default: the user's cache)",
    ),
)


@dataclass(frozen=True, slots=True)
class Loading:
    """How a command loads models."""

    tags: list[str]
    op_libraries: list[str]
    cache: Path | None

    def loader(self) -> Callable[[Path], "Servable"]:
        """Loads the op libraries, and returns the function that loads a SavedModel's folder."""
        from lambda_serving.servables.saved_model import load
        from lambda_serving.servables.tensorflow_c.op_libraries import load_op_library

        for path in self.op_libraries:
            load_op_library(path)
        return partial(load, tags=self.tags, cache=self.cache)


def split(text: str) -> list[str]:
    """The items of a comma-separated option."""
    return [item for item in text.split(",") if item]


def loading(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options and passes their values as `loading`; TensorFlow's log stays quiet."""

    @wraps(command)
    def quietly(
        saved_model_tags: str, op_libraries: str, cache_dir: Path | None, **others: Any
    ) -> None:
        quiet()
        made = Loading(saved_model_tags.split(","), split(op_libraries), cache_dir)
        command(**others, loading=made)

    for option in reversed(_LOADING):
        quietly = option(quietly)
    return quietly
