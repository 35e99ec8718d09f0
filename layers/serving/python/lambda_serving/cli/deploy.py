"""`lambda-serving deploy`: builds and deploys the project, and says how to call it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.deployment import Deployment, environments, the_project

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.project.deployed.stack import Stack
    from lambda_serving.project.environments import Environment

__all__ = ["deploy"]


@click.command()
@click.option(
    "--env",
    default="dev",
    show_default=True,
    shell_complete=environments,
    help="Environment in samconfig.toml",
)
@click.option("--region", help="Region of AWS (default: the environment's, or AWS's settings)")
@click.option("--profile", help="Profile of AWS (default: likewise)")
@click.option("--yes", "-y", is_flag=True, help="Deploy the changes without asking")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the addresses as JSON, and sam's output to stderr",
)
@click.argument("sam_options", nargs=-1, type=click.UNPROCESSED)
def deploy(
    env: str,
    region: str | None,
    profile: str | None,
    sam_options: Sequence[str],
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Build the project and deploy it with AWS SAM, then show how to call the models.

    Runs `sam build` and `sam deploy` with the environment's part of samconfig.toml. Docker must run
    and AWS credentials must be set. What follows -- goes to `sam deploy`.

    Example: lambda-serving deploy --env prod
    """
    from lambda_serving.project import sam
    from lambda_serving.project.environments import environment
    from lambda_serving.project.folder import Project

    project = the_project()
    Project(project).models()  # a folder that is not there is an error now, not after minutes
    where = environment(project, env)
    deployment = Deployment.of(where, region, profile)
    deployment.connect()  # what is missing is an error now, not after minutes
    path = sam.find()
    for arguments in _commands(where, deployment, sam_options, yes=yes):
        sam.run(path, arguments, project, quiet=as_json)
    _show(deployment.look(), deployment, project, as_json=as_json)


def _commands(
    where: "Environment", deployment: Deployment, sam_options: Sequence[str], *, yes: bool
) -> tuple[list[str], list[str]]:
    """What sam is called with, to build and to deploy."""
    place = [
        f"--{name}={value}"
        for name, value in (("region", deployment.region), ("profile", deployment.profile))
        if value
    ]
    overrides = where.overrides and not where.builds_with_overrides
    built_with = ["--parameter-overrides", *where.overrides] if overrides else []
    unasked = ["--no-confirm-changeset"] if yes else []
    return (
        ["build", f"--config-env={where.build}", *place, *built_with],
        ["deploy", f"--config-env={where.name}", *place, *unasked, *sam_options],
    )


def _show(stack: "Stack", deployment: Deployment, project: Path, *, as_json: bool) -> None:
    urls = {name: each.outputs["PredictUrl"] for name, each in sorted(stack.models.items())}
    if as_json:
        told = {
            "stack": stack.name,
            "access": stack.access,
            "models": urls,
            "outputs": stack.outputs,
        }
        click.echo(json.dumps(told))
        return
    click.echo(f"\nStack {stack.name} is {stack.status}")
    for name, url in urls.items():
        click.echo(f"{name}: {url}")
    for name, value in stack.outputs.items():
        if value not in urls.values():
            click.echo(f"{name}: {value}")
    _tell_how_to_call(stack, urls, deployment, project)


def _tell_how_to_call(
    stack: "Stack", urls: dict[str, str], deployment: Deployment, project: Path
) -> None:
    import shlex

    from lambda_serving.project.calls import call, golden_file

    options = f"--profile {shlex.quote(deployment.profile)}" if deployment.profile else ""
    if urls:
        click.echo("\nCall it:")
    for name, url in urls.items():
        golden = golden_file(project / "models" / name)
        near = Path(os.path.relpath(golden)) if golden else None
        click.echo(f"  {call(name, url, stack.access, near, options)}")
