"""Opens TensorFlow's library while Python still imports the rest, if a model needs it."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import aspired
from lambda_serving.errors import ServingError
from lambda_serving.servables.litert.compiled_folder import serves
from lambda_serving.servables.tensorflow_c.library import library
from lambda_serving.store.names import by_version

__all__ = ["needs_tensorflow", "open_early"]


def open_early(models: Callable[[], Iterable[ModelConfig]], *, prefer_tflite: bool) -> None:
    """Opens the library in a thread if a model `needs_tensorflow`.

    That takes 0.2 s, and memory that LiteRT models do without. `models` is called in the thread.
    Whatever fails there, the load finds it too, and tells it.
    """
    threading.Thread(target=_open_if_needed, args=(models, prefer_tflite), daemon=True).start()


def _open_if_needed(models: Callable[[], Iterable[ModelConfig]], prefer_tflite: bool) -> None:  # noqa: FBT001 args of a thread
    with suppress(ServingError, OSError, ImportError):
        if any(needs_tensorflow(model, prefer_tflite=prefer_tflite) for model in models()):
            library()


def needs_tensorflow(model: ModelConfig, *, prefer_tflite: bool) -> bool:
    """Whether a version that will be loaded first is a SavedModel that LiteRT does not serve.

    False for a bucket, whose files are not here yet. Raises OSError for a base path that cannot be
    read.
    """
    if "://" in model.base_path:
        return False
    folders = by_version(each.name for each in Path(model.base_path).iterdir())
    found = (Path(model.base_path, folders[each]) for each in aspired(model.policy, folders))
    return any(
        _is_saved_model(folder) and not serves(folder, preferred=prefer_tflite) for folder in found
    )


def _is_saved_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("saved_model.pb", "saved_model.pbtxt"))
