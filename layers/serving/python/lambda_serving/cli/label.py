"""`lambda-serving label`: names versions of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from lambda_serving.cli import released_model
from lambda_serving.errors import NotFound

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.config.model_config import ModelConfig

__all__ = ["label"]


@click.command()
@click.argument("base_path")
@click.argument("labels", nargs=-1, metavar="[NAME=VERSION]...")
@click.option("--remove", multiple=True, metavar="NAME", help="Remove this label; may be repeated")
def label(base_path: str, labels: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Set, remove or show the labels of a model's versions.

    Without arguments, shows the labels. BASE_PATH is s3://BUCKET/PREFIX/NAME. Labels are saved in
    models.config beside the model; comments in that file are lost. The stack's release function
    picks the change up by itself.
    """
    added = _parsed(labels)
    if both := added.keys() & set(remove):
        raise click.UsageError(f"{', '.join(sorted(both))} cannot be set and removed at once.")

    def edit(model: "ModelConfig") -> "ModelConfig":
        if missing := set(remove) - model.labels.keys():
            shown = released_model.labels_of(model)
            raise NotFound(f"{base_path} has no label {', '.join(sorted(missing))}. It has {shown}")
        kept = {name: version for name, version in model.labels.items() if name not in remove}
        return replace(model, labels=kept | added)

    model = released_model.change(base_path, edit)
    released_model.show(base_path, model)
    for name in _unreleased(model, added):
        click.secho(
            f"Warning: version {added[name]} is not released, so the label {name} has no URL yet."
            f" Push the version, or include it with a policy such as"
            f" `lambda-serving set-policy {base_path} latest 2`",
            err=True,
            fg="yellow",
        )


def _parsed(assignments: Sequence[str]) -> dict[str, int]:
    from lambda_serving.config.model_config import LABEL

    labels = dict[str, int]()
    for assignment in assignments:
        name, equals, version = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"Labels are set with NAME=VERSION, not with {assignment!r}.")
        if not LABEL.fullmatch(name):
            raise click.UsageError(
                f"The label {name!r} must be 1 to 100 characters of A-Z, a-z, 0-9, _ and -:"
                " it becomes part of URLs and of an alias."
            )
        if name in labels:
            raise click.UsageError(f"The label {name} is set twice.")
        labels[name] = released_model.version_number(version)
    return labels


def _unreleased(model: "ModelConfig", labels: Mapping[str, int]) -> list[str]:
    """The labels of versions that are incomplete or not in the policy."""
    if not labels:
        return []
    from lambda_serving.config.servable_version_policy import aspired

    released = aspired(model.policy, released_model.versions(model.base_path))
    return [name for name, version in labels.items() if version not in released]
