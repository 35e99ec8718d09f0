"""Temporary folders for models from buckets; a process that dies leaves its folders behind."""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.store import Store, open_store, temporary
from lambda_serving.store.address import Address

__all__ = ["downloads_folder", "open_models", "remove_downloads"]


def downloads_folder(models: Sequence[ModelConfig], downloads: ExitStack, process: int) -> Path:
    """A folder until `downloads` closes, if a model is in a bucket.

    Otherwise an empty path: no writable disk is needed.
    """
    if not any(Address.parse(model.base_path).is_bucket for model in models):
        return Path()
    return downloads.enter_context(temporary.folder(_prefix(process)))


def open_models(models: Sequence[ModelConfig], downloads: ExitStack, process: int) -> Store:
    """The store of these models; raises what `open_store` raises."""
    base_paths = {model.name: model.base_path for model in models}
    return open_store(base_paths, downloads_folder(models, downloads, process))


def remove_downloads(process: int) -> None:
    """Removes the folders of a process that ended before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix(process)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(process: int) -> str:
    return f"lambda-serving-{process}-"
