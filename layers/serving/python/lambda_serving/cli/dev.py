"""`lambda-serving dev`: a server over a folder of models, which follows what is put there."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.deployment import the_project
from lambda_serving.errors import NotFound

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.config.model_config import ModelConfig
    from lambda_serving.config.server_flags import Settings

__all__ = ["dev"]

_PORT = click.IntRange(0, 65535)
_SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a command."""


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--rest_api_port", type=_PORT, default=8501, show_default=True, help="Port; 0 for any free port"
)
@click.option(
    "--port",
    type=_PORT,
    default=0,
    show_default=True,
    help="Port of gRPC, usually 8500; 0 for none",
)
@click.option("--prefer_tflite_model", is_flag=True, help="Serve model.tflite where there is one")
def dev(folder: Path | None, rest_api_port: int, port: int, *, prefer_tflite_model: bool) -> None:
    """Serve the models of the project, or of FOLDER, on this machine, and follow their files.

    FOLDER is a folder of models (FOLDER/NAME/VERSION), of versions (FOLDER/VERSION), or a
    SavedModel. A model or a version that is added, changed or removed is loaded, loaded again or
    unloaded within seconds. A model that does not load is reported; the others are served. Ctrl-C
    ends the server.

    Example: lambda-serving dev my_export
    """
    from lambda_serving.config.server_flags import Settings

    models = (folder if folder is not None else the_project() / "models").resolve()
    if not models.is_dir():
        raise NotFound(f"{models} is not a folder. {_advice(models)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # as `serve`
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = Settings(
        rest_api_port=rest_api_port,
        port=port,
        prefer_tflite_model=prefer_tflite_model,
        reload_changed_versions=True,
    )
    sys.exit(_serve(settings, models))


def _advice(path: Path) -> str:
    """What to do about a path that is no folder."""
    from lambda_serving.store.other_formats import advice

    told = advice(str(path)) if path.exists() else ""
    return told or "Give the folder of a SavedModel, or of models: NAME/VERSION"


def _serve(settings: "Settings", folder: Path) -> int:
    """Serves what is in the folder until a signal; returns the exit code."""
    from lambda_serving.servables.early_opening import open_early
    from lambda_serving.store import temporary

    with ExitStack() as links:

        def ended(number: int) -> int:
            links.close()  # here, as a signal while models load ends the process at once
            return _SIGNALLED + number

        find = partial(_found, folder, links.enter_context(temporary.folder()))
        open_early(find, prefer_tflite=settings.prefer_tflite_model)
        from lambda_serving.server.models_folder import serve_models

        return serve_models(settings, find, partial(_tell, folder, find), ended)


def _found(folder: Path, links: Path) -> "list[ModelConfig]":
    """The models in a folder, in the order of their names.

    A SavedModel whose folder is no number becomes version 1 by a link below `links`. Raises
    Unavailable if the folder, or one in it, cannot be read.
    """
    from lambda_serving.config.model_config import ModelConfig
    from lambda_serving.config.servable_version_policy import Specific
    from lambda_serving.errors import translate_os_errors
    from lambda_serving.store.names import by_version

    with translate_os_errors(f"read {folder}"):
        if _is_model(folder):
            if number := by_version([folder.name]):
                policy = Specific(frozenset(number))
                return [ModelConfig(folder.parent.name, str(folder.parent), policy)]
            return [ModelConfig(folder.name, str(_linked(folder, links)))]
        if _has_versions(folder):
            return [ModelConfig(folder.name, str(folder))]
        below = sorted(folder.iterdir())
        return [ModelConfig(each.name, str(each)) for each in below if _has_versions(each)]


def _linked(export_dir: Path, links: Path) -> Path:
    """A base path whose version 1 is that SavedModel."""
    base_path = links / export_dir.name
    if not base_path.exists():
        base_path.mkdir()
        (base_path / "1").symlink_to(export_dir, target_is_directory=True)
    return base_path


def _is_model(folder: Path) -> bool:
    from lambda_serving.cli.exports import EXPORTS

    return any((folder / name).is_file() for name in EXPORTS)


def _has_versions(folder: Path) -> bool:
    from lambda_serving.store.names import by_version

    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return bool(by_version(each.name for each in folder.iterdir() if each.is_dir()))


def _tell(folder: Path, find: "Callable[[], Sequence[ModelConfig]]", address: str) -> None:
    """Prints the addresses."""
    from urllib.parse import quote

    found = find()
    for model in found:
        click.echo(f"{model.name}: {address}/v1/models/{quote(model.name)}:predict")
    if not found:
        click.echo(
            f"There is no model in {folder} yet. Put one there: {folder}/NAME/1/saved_model.pb"
        )
    click.echo(f"Page: {address}/docs")
    click.echo(f"What changes in {folder} is served within seconds. Ctrl-C ends the server")
