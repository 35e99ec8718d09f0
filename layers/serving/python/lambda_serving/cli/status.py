"""`lambda-serving status`: shows the versions of a model and the next step of its release."""

from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import plain_console, table
from lambda_serving.cli.deployed_stack import open_gateway, stack_option

if TYPE_CHECKING:  # see cli.inspect
    from rich.table import Table

    from lambda_serving.release.deciding.model_state import Deployment

__all__ = ["status"]

_SHOWN = len("sha256:") + 12


@click.command()
@click.argument("base_path")
@stack_option
def status(base_path: str, stack: str) -> None:
    """Show a model's versions, and the next step of its release.

    BASE_PATH is s3://BUCKET/PREFIX/NAME.
    """
    from lambda_serving.release.deciding.next_action import plan

    seen = open_gateway(base_path, stack).observe()
    plain_console().print(_table(seen))
    for key in seen.odd:
        click.echo(f"The key {key!r} is not a file name, and is ignored", err=True)
    next_one = next(iter(plan(seen)), None)
    click.echo(f"Next: {next_one}" if next_one else "Nothing to do")


def _table(seen: "Deployment") -> "Table":
    """A row for each version, the largest first."""
    made = table(
        "version", "state", "labels", "traffic", "function version", "image", "age", "error"
    )
    for version in sorted({*seen.versions, *seen.settling}, reverse=True):
        record = seen.record(version)
        published = seen.published(version)
        number = published.number if published else None
        made.add_row(
            str(version),
            _state(version, seen),
            ", ".join(sorted(label for label, of in seen.labels.items() if of == version)),
            _traffic(number, seen),
            str(number or ""),
            ((record.image if record else None) or "")[:_SHOWN],
            _age(seen.now - record.changed) if record else "",
            record.error if record else None,
        )
    return made


def _state(version: int, seen: "Deployment") -> str:
    from lambda_serving.release.aws.bucket import state_of

    if version in seen.settling:
        return "COPYING"
    record = seen.record(version)
    return state_of(record) if record else "PUSHED"


def _traffic(number: int | None, seen: "Deployment") -> str:
    """Whether requests that name no version go to a function version."""
    from lambda_serving.release.deciding.model_state import LIVE

    live = seen.aliases[LIVE]
    if number is not None and number == live.function_version:
        return "live, in part" if live.shares else "live"
    return "in part" if number in live.shares else ""


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} s"
