"""`lambda-serving add`: a model becomes part of a project."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import Stages, printable, quiet, stages
from lambda_serving.cli.deployment import the_project

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.compile.report import Report
    from lambda_serving.project.adding import Added
    from lambda_serving.project.folder import Project

__all__ = ["add", "add_to", "name_of"]


@click.command()
@click.argument("name")
@click.argument("source", metavar="FOLDER_OR_KERAS_FILE")
def add(name: str, source: str) -> None:
    """Add a model to this project under NAME, or a version to a model of this name.

    FOLDER_OR_KERAS_FILE is the folder of a SavedModel, a base path (its largest version is taken),
    or a .keras or .h5 file, which is exported. The export is copied to models/NAME/1, or to the
    next version. It is compiled, to see that it can be, and asked for a golden answer if it has
    none. A new model gets its block in template.yaml.

    Example: lambda-serving add recommender exports/recommender
    """
    from lambda_serving.project.folder import Project

    for line in add_to(Project(the_project()), name, source):
        click.echo(printable(line))


def add_to(project: "Project", name: str, source: str) -> list[str]:
    """Adds a model to a project; the lines that say what changed."""
    from rich.progress import SpinnerColumn

    from lambda_serving.cli.exports import newest
    from lambda_serving.project import adding, keras_files
    from lambda_serving.store import temporary

    quiet()
    title = f"{printable(source)} -> {printable(name)}"
    with temporary.folder() as work, stages(title, SpinnerColumn()) as progress:
        if keras_files.is_keras(source):
            progress("exporting with Keras")
            export = work / "export"
            keras_files.export(Path(source), export)
        else:
            export = newest(source, work)
        added = adding.add(project, name, export, partial(_compile, progress), progress)
    return list(_told(project, name, added))


def name_of(source: str) -> str:
    """A name for a model, from that of its folder or file: `my_model` for `my model/1`."""
    from lambda_serving.project.keras_files import is_keras
    from lambda_serving.project.names import model_like

    path = Path(source).absolute()
    if is_keras(source):
        return model_like(path.stem)
    return model_like(path.parent.name if re.fullmatch(r"\d+", path.name) else path.name)


def _compile(progress: Stages, export: Path, destination: Path) -> str:
    from lambda_serving.compile.compiler import compile_saved_model
    from lambda_serving.compile.runtimes import AUTO

    report = compile_saved_model(export, destination, progress=progress, runtime=AUTO)
    return _of_report(report)


def _of_report(report: "Report") -> str:
    from lambda_serving.compile.runtimes import LITERT

    if report.reason is not None:
        return f"It will be served as exported, because {report.reason}"
    if report.runtime.name == LITERT:
        return "It compiles, and LiteRT will serve it"
    return f"It compiles ({report.chosen}), and TensorFlow will serve it"


def _told(project: "Project", name: str, added: "Added") -> list[str]:
    version = added.version.relative_to(project.root)
    lines = [f"{version}: the export", added.compiled]
    lines.append(
        f"No golden answer was recorded: {added.no_golden}. Record one with"
        " `lambda-serving predict --golden`"
        if added.no_golden
        else f"{version}/assets.extra/golden.jsonl: its golden answers, which `pytest` asks for"
    )
    if added.block_is_new:
        lines.append(f"template.yaml: a block for {name}, and its URL in Outputs")
    return lines
