"""Which SavedModels a command's folder argument means."""

from pathlib import Path

from lambda_serving.errors import NotFound
from lambda_serving.model_spec import ServableId
from lambda_serving.store import LocalStore, open_store
from lambda_serving.store.address import Address
from lambda_serving.store.names import by_version
from lambda_serving.store.other_formats import advice

__all__ = ["EXPORTS", "exports", "newest"]

EXPORTS = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")


def exports(directory: Path) -> list[Path]:
    """The folder itself if it holds a SavedModel, otherwise the versions in it.

    Raises NotFound if there are none; the error lists what is there and what to do.
    """
    if not directory.is_dir():
        there = directory.exists()
        told = advice(str(directory)) if there else "Correct the path"
        raise NotFound(
            f"{directory} {'is not a folder' if there else 'does not exist'}{told and f'. {told}'}"
        )
    if any((directory / name).is_file() for name in EXPORTS):
        return [directory]
    name = "model"
    store = LocalStore({name: str(directory)})
    if versions := store.versions(name):
        return [store.fetch(ServableId(name, version)) for version in versions]
    contents = store.contents(name)
    told = advice(str(directory), contents) or _below(directory)
    raise NotFound(
        f"{directory} holds neither saved_model.pb nor folders whose names are numbers."
        f" It holds: {', '.join(contents) or 'nothing'}{told and f'. {told}'}"
    )


def _below(directory: Path) -> str:
    found = sorted(path.parent for name in EXPORTS for path in directory.glob(f"*/{name}"))
    return f"Use one of the SavedModels in it, such as {found[0]}" if found else ""


def newest(model: str, folder: Path) -> Path:
    """The folder of a version, or of the largest version below a base path.

    A model in s3:// is downloaded below `folder`. Raises what `exports` and the store raise.
    """
    if not Address.parse(model, "MODEL").is_bucket:
        return exports(Path(model))[-1]
    name, address = "model", model.rstrip("/")
    store = open_store({name: address}, folder)
    if versions := store.versions(name):
        return store.fetch(ServableId(name, versions[-1]))
    base_path, _, version = address.rpartition("/")
    if version not in by_version([version]).values():
        contents = store.contents(name)
        told = advice(address, contents)
        raise NotFound(
            f"{model} is not the folder of a version, and holds no versions. It holds:"
            f" {', '.join(contents) or 'nothing'}{told and f'. {told}'}"
        )
    return open_store({name: base_path}, folder).fetch(ServableId(name, int(version)))
