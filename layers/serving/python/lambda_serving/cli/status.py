"""`lambda-serving status`: shows the versions of a model and the next step of its release."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import printable, stages
from lambda_serving.cli.deployed_stack import open_gateway, stack_option
from lambda_serving.cli.layout import show_rows, show_text

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.release.deciding.model_state import Deployment

__all__ = ["status"]

_DIGITS = 12
_TITLES = ("version", "state", "labels", "traffic", "function version", "image", "age", "error")
_SHARES = {"all": "live", "most": "live, in part", "part": "in part", "none": ""}


@click.command()
@click.argument("base_path")
@stack_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead")
def status(
    base_path: str,
    stack: str,
    as_json: bool,  # noqa: FBT001 - as click passes it
) -> None:
    """Show a model's versions, and the next step of its release.

    BASE_PATH is s3://BUCKET/PREFIX/NAME.

    The JSON document is {"versions": [...], "ignored": [...], "next": ...}. Each version, the
    largest first, has "version", "state" (COPYING, PUSHED, UNBUILT, BUILDING, BUILT, AVAILABLE or
    FAILED), "labels", "traffic" of requests that name no version ("all", "most", "part" or "none"),
    "function_version", "image", "changed" (seconds since 1970) and "error"; what is not known is
    null. "ignored" are keys that are not names of files, "next" is a sentence, or null if nothing
    is left to do.
    """
    from lambda_serving.release.deciding.next_action import plan

    with stages(base_path) as progress:
        progress("asking AWS")
        seen = open_gateway(base_path, stack).observe()
    versions = [
        _described(each, seen) for each in sorted({*seen.versions, *seen.settling}, reverse=True)
    ]
    next_one = next(iter(plan(seen)), None)
    if as_json:
        told = None if next_one is None else str(next_one)
        document = {"versions": [each.json() for each in versions], "ignored": [*seen.odd]}
        click.echo(json.dumps({**document, "next": told}, indent=2))
        return
    show_rows(_TITLES, [each.row(seen.now) for each in versions])
    for key in seen.odd:
        click.echo(f"The key {printable(key)!r} is not a file name, and is ignored", err=True)
    show_text(f"Next: {next_one}" if next_one else "Nothing to do")


@dataclass(frozen=True, slots=True)
class _Version:
    """What is told of a version; `changed` is in seconds since 1970."""

    version: int
    state: str
    labels: list[str]
    traffic: str
    function_version: int | None
    image: str | None
    changed: float | None
    error: str | None

    def json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}

    def row(self, now: float) -> tuple[str, ...]:
        return (
            str(self.version),
            self.state,
            ", ".join(self.labels),
            _SHARES[self.traffic],
            str(self.function_version or ""),
            (self.image or "")[: len("sha256:") + _DIGITS],
            "" if self.changed is None else _age(now - self.changed),
            self.error or "",
        )


def _described(version: int, seen: "Deployment") -> _Version:
    record, published = seen.record(version), seen.published(version)
    number = published.number if published else None
    return _Version(
        version,
        _state(version, seen),
        sorted(label for label, of in seen.labels.items() if of == version),
        _traffic(number, seen),
        number,
        record.image if record else None,
        record.changed if record else None,
        record.error if record else None,
    )


def _state(version: int, seen: "Deployment") -> str:
    from lambda_serving.release.aws.bucket import state_of

    if version in seen.settling:
        return "COPYING"
    record = seen.record(version)
    return state_of(record) if record else "PUSHED"


def _traffic(number: int | None, seen: "Deployment") -> str:
    """Which share of requests that name no version go to a function version."""
    from lambda_serving.release.deciding.model_state import LIVE

    live = seen.aliases[LIVE]
    if number is not None and number == live.function_version:
        return "most" if live.shares else "all"
    return "part" if number in live.shares else "none"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} s"
