"""`lambda-serving upgrade`: the newest system in a project."""

import click

from lambda_serving.cli.console import printable
from lambda_serving.cli.deployment import the_project

__all__ = ["upgrade"]


@click.command()
@click.option("--yes", is_flag=True, help="Write the changes without asking")
def upgrade(*, yes: bool) -> None:
    """Bring infra/ of this project to the installed version of lambda-serving.

    The differences are shown first: templates and images line by line, code and locked requirements
    as names of files, and whatever was edited by hand line by line too. template.yaml and all other
    files are yours and stay as they are.

    Example: pip install --upgrade lambda-serving && lambda-serving upgrade
    """
    from lambda_serving.project.folder import Project
    from lambda_serving.project.upgrading import plan

    planned = plan(Project(the_project()))
    if not planned.is_needed:
        click.echo(f"infra/ is that of lambda-serving {planned.after}. Nothing to do")
        return
    for change in planned.changes:
        for line in change.told().splitlines():
            click.echo(printable(line))
    edited = [change.name for change in planned.changes if change.by_hand]
    if edited:
        click.secho(
            f"{len(edited)} of these files were edited by hand. Their edits will be lost: put them"
            " into template.yaml, or keep them in a branch",
            err=True,
            fg="yellow",
        )
    if yes or click.confirm(
        f"Change infra/ from {printable(planned.before)} to {planned.after}?", abort=True
    ):
        planned.write()
        click.echo(f"infra/: {len(planned.changes)} files written")
