"""`lambda-serving remove`: a model leaves a project."""

import click

from lambda_serving.cli.console import printable
from lambda_serving.cli.deployment import the_project

__all__ = ["remove"]


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """Take the model NAME out of this project.

    Its block in template.yaml goes, with outputs that refer to it. The next deployment deletes its
    function. Its versions stay, in models/ and in the bucket.

    Example: lambda-serving remove recommender
    """
    import difflib

    from lambda_serving.project.folder import TEMPLATE, Project
    from lambda_serving.project.template import blocks, without_block

    project = Project(the_project())
    text = project.read()
    edited = without_block(text, name)
    folder = next(each.folder for each in blocks(text) if each.name == name)
    project.write(edited)
    before, after = text.splitlines(), edited.splitlines()
    for line in difflib.unified_diff(before, after, TEMPLATE, TEMPLATE, lineterm=""):
        click.echo(printable(line))
    if folder and (project.root / folder).exists():
        click.echo(f"{folder} stays. Delete it yourself if you need its versions no more")
