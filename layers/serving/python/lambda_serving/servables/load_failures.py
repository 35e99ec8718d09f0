"""Hints that TensorFlow's messages lack about SavedModels that it cannot load."""

from collections.abc import Callable
from pathlib import Path

from lambda_serving.errors import ServingError
from lambda_serving.servables.graph_defs import meta_graphs
from lambda_serving.store.other_formats import advice

__all__ = ["hint"]


def hint(error: ServingError, path: Path) -> str:
    """A hint to append to an error of loading `path`; empty for most errors."""
    said = str(error)
    return next((more(path) for part, more in _HINTS.items() if part in said), "")


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def _of_place(path: Path) -> str:
    told = advice(str(path), _names(path) if path.is_dir() else None)
    return told and f". {told}"


def _of_tags(path: Path) -> str:
    """Names the tags of the meta graphs there are."""
    if (path / "tfhub_module.pb").exists():
        return f" {advice(str(path), _names(path))}"
    found = meta_graphs(path)
    if found is None:
        return ""
    sets = [",".join(sorted(each.meta_info_def.tags)) or "none" for each in found]
    if not sets:
        return " It has no meta graph: saved_model.pb is empty. Copy the export again"
    return f" Its tags are {' or '.join(sorted(sets))}: name them in --saved_model_tags"


_HINTS: dict[str, Callable[[Path], str]] = {
    "Op type not registered": lambda _: (
        " If it is one of TensorFlow Text or Decision Forests, install tensorflow-text or"
        " tensorflow-decision-forests. Name the library of this custom op in --op_libraries"
    ),
    "Read less bytes than requested": lambda _: (
        ": saved_model.pb is cut short or is not a SavedModel"
    ),
    "Could not find SavedModel": _of_place,
    "Could not find meta graph def": _of_tags,
}
