"""`lambda-serving set-policy`: chooses which versions of a model are released."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.released_model import change, number, show, version_number

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.config.servable_version_policy import VersionPolicy

__all__ = ["set_policy"]

_MAX_COUNT = 2**32 - 1


@click.command("set-policy")
@click.argument("base_path")
@click.argument(
    "words", nargs=-1, required=True, metavar="latest [N] | all | specific VERSION,VERSION"
)
def set_policy(base_path: str, words: tuple[str, ...]) -> None:
    """Choose which versions of a model are released.

    The policy is the N latest versions (by default 1), all versions, or the versions listed.
    BASE_PATH is s3://BUCKET/PREFIX/NAME. The policy is saved in models.config beside the model;
    comments in that file are lost. The stack's release function picks the change up by itself.
    """
    policy = _policy(words)
    show(base_path, change(base_path, lambda model: replace(model, policy=policy)))


def _policy(words: Sequence[str]) -> "VersionPolicy":
    from lambda_serving.config.servable_version_policy import All, Latest, Specific

    match words:
        case ["latest"]:
            return Latest()
        case ["latest", count]:
            return Latest(number(count, 1, _MAX_COUNT))
        case ["all"]:
            return All()
        case ["specific", versions]:
            return Specific(frozenset(map(version_number, versions.split(","))))
        case _:
            raise click.UsageError(
                "The policy must be latest, latest N, all, or specific VERSION,VERSION,"
                f" not {' '.join(words)!r}."
            )
