"""`lambda-serving destroy`: removes a deployed stack and what it leaves over."""

import json
import sys
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import stages
from lambda_serving.cli.deployment import Deployment, of_stack

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.project.deployed.removal import Plan, Removal

__all__ = ["destroy"]


@click.command()
@click.option(
    "--models", is_flag=True, help="Also delete the bucket, with every version of all models"
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON")
@of_stack
def destroy(
    deployment: Deployment,
    *,
    models: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove a deployed stack: functions, API, alarms, logs, and the images of all versions.

    Shows what will be removed and asks for the stack's name, unless --yes is given. The bucket with
    the models stays unless --models is given. A run that was interrupted, or failed, can be
    repeated, also to delete the bucket later.

    Example: lambda-serving destroy --env dev
    """
    from lambda_serving.project.deployed.removal import Clients, Removal, plan

    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run.")
    clients = Clients.connect(deployment.connect)
    found = plan(deployment.stack, clients)
    click.echo(json.dumps(_fields(found)) if as_json else _described(found, models=models))
    if dry_run:
        return
    if not yes and click.prompt("Type the stack's name to remove it") != found.name:
        click.echo("That is not its name. Nothing was removed", err=True)
        sys.exit(1)
    _remove(Removal(found, clients), found, deployment, models=models)


def _remove(removal: "Removal", found: "Plan", deployment: Deployment, *, models: bool) -> None:
    with stages(f"Removing {found.name}") as tell:
        removal.stack(tell)
        removal.images(tell)
        removal.log_groups()
        gone = removal.models(tell) if models else []
    click.echo(f"Stack {found.name} is removed")
    for bucket in found.buckets:
        if bucket in gone:
            click.echo(f"Bucket {bucket} is deleted")
        else:
            click.echo(
                f"Bucket {bucket} keeps the models. Delete it too:"
                f" lambda-serving destroy {deployment.options} --models"
            )


def _described(found: "Plan", *, models: bool) -> str:
    """What will be removed, and what will stay."""
    lines = [f"Stack {found.name}" + ("" if found.stack else ", which is deleted already")]
    lines += [f"  {count:4} {kind}" for kind, count in sorted(found.kinds.items())]
    lines += [f"Images: repository {each}" for each in found.repositories]
    lines += [
        f"Models: bucket {each} {'with everything in it' if models else 'stays'}"
        for each in found.buckets
    ]
    return "\n".join(lines)


def _fields(found: "Plan") -> dict[str, object]:
    return {
        "stack": found.name,
        "deployed": found.stack is not None,
        "resources": found.kinds,
        "repositories": found.repositories,
        "log_groups": [*found.log_groups],
        "buckets": [*found.buckets],
    }
