"""What a command's folder argument stands for."""

from pathlib import Path

from lambda_serving.errors import NotFound
from lambda_serving.model_spec import ServableId
from lambda_serving.store import LocalStore

__all__ = ["exports"]

_EXPORTS = ("saved_model.pb", "saved_model.pbtxt")


def exports(directory: Path) -> list[Path]:
    """The folder itself if it holds a SavedModel, else the versions in it; NotFound if none."""
    if any((directory / name).is_file() for name in _EXPORTS):
        return [directory]
    name = "model"
    store = LocalStore({name: str(directory)})
    if versions := store.versions(name):
        return [store.fetch(ServableId(name, version)) for version in versions]
    raise NotFound(
        f"{directory} holds neither saved_model.pb nor folders whose names are numbers."
        f" There is: {', '.join(store.contents(name)) or 'nothing'}"
    )
