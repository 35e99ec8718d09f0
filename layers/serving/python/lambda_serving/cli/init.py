"""`lambda-serving init`: a project of the user's own."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import printable

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.project.folder import Project

__all__ = ["init"]


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="FOLDER",
    help="Also add this model: the folder of a SavedModel, or a .keras or .h5 file",
)
@click.option("--name", help="Name of that model in URLs (default: made of the folder's name)")
def init(directory: Path, model: str | None, name: str | None) -> None:
    """Make a project in DIR: your models as an API on AWS Lambda, in a repository of your own.

    A project has a small template.yaml, samconfig.toml with the environments dev and prod, a test
    that asks each model for its golden answers, a GitHub workflow, and in infra/ the system that
    it deploys. DIR may exist, such as a new repository; a README.md in it is kept.

    Example: lambda-serving init shop --model exports/recommender
    """
    from lambda_serving.cli.add import add_to, name_of
    from lambda_serving.project.starting import start

    if name and model is None:
        raise click.UsageError("--name is the name of a --model.")
    told: list[str] = []

    def fill(project: "Project") -> None:
        if model is not None:
            told.extend(add_to(project, name or name_of(model), model))

    started = start(directory, fill)
    click.echo(f"{printable(str(directory))}: a project. README.md says what its files are")
    for each in started.kept:
        click.echo(f"{printable(each)} was there before, and is kept")
    for line in told:
        click.echo(printable(line))
    following = "dev" if model else "add NAME FOLDER"
    click.echo(f"Next: cd {shlex.quote(str(directory))} && lambda-serving {following}")
