"""Options of the commands that load a model before they use it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_serving.cli.console import quiet

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.servables.saved_model import LiteRT
    from lambda_serving.servables.servable import Servable

__all__ = ["Loading", "loading", "loading_saved_models", "split"]

_USUAL_TAGS = ["serve"]
_LOADING = (
    click.option(
        "--saved_model_tags",
        default=",".join(_USUAL_TAGS),
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
_TFLITE = click.option(
    "--prefer_tflite_model",
    is_flag=True,
    help="Load model.tflite, where a version's folder has it, with LiteRT",
)


@dataclass(frozen=True, slots=True)
class Loading:
    """How a command loads models."""

    tags: list[str]
    op_libraries: list[str]
    cache: Path | None
    prefer_tflite: bool

    def loader(self) -> Callable[[Path], "Servable"]:
        """Loads the op libraries, and returns the function that loads a SavedModel's folder."""
        from lambda_serving.servables.saved_model import load
        from lambda_serving.servables.tensorflow_c.op_libraries import load_op_library

        for path in self.op_libraries:
            load_op_library(path)
        return partial(load, tags=self.tags, cache=self.cache, litert=self._litert())

    def runtime(self, path: Path) -> str:
        """What serves the model in a version's folder: `tensorflow` or `litert`."""
        return "litert" if self._litert().serves(path) else "tensorflow"

    def _litert(self) -> "LiteRT":
        from lambda_serving.servables.saved_model import LiteRT

        return LiteRT(preferred=self.prefer_tflite)

    def variant(self, folder: Path) -> str:
        """Which of the models in a version's folder is loaded; empty for the usual one."""
        from lambda_serving.servables.saved_model import LiteRT

        if LiteRT(preferred=self.prefer_tflite).serves(folder):
            return "litert"
        return "" if self.tags == _USUAL_TAGS else ",".join(self.tags)


def split(text: str) -> list[str]:
    """The items of a comma-separated option."""
    return [item for item in text.split(",") if item]


def loading(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options and passes their values as `loading`; TensorFlow's log stays quiet."""
    return _TFLITE(loading_saved_models(command))


def loading_saved_models(command: Callable[..., None]) -> Callable[..., None]:
    """As `loading`, for a command that takes SavedModels only."""

    @wraps(command)
    def quietly(
        saved_model_tags: str,
        op_libraries: str,
        cache_dir: Path | None,
        *,
        prefer_tflite_model: bool = False,
        **others: Any,
    ) -> None:
        quiet()
        libraries = split(op_libraries)
        made = Loading(saved_model_tags.split(","), libraries, cache_dir, prefer_tflite_model)
        command(**others, loading=made)

    for option in reversed(_LOADING):
        quietly = option(quietly)
    return quietly
