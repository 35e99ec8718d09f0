"""`lambda-serving status` and `reconcile`: how a model's release stands, and a hand for it."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import plain_console, quiet, table
from lambda_serving.cli.options import split
from lambda_serving.errors import Unimplemented
from lambda_serving.store import temporary

if TYPE_CHECKING:  # see cli.inspect
    from rich.table import Table

    from lambda_serving.release.aws.build_orders import Builder
    from lambda_serving.release.aws.deployed_model import AwsGateway
    from lambda_serving.release.deciding.model_state import Deployment

__all__ = ["reconcile", "status"]

_PATIENCE_SECONDS = 3.0
_SHOWN = len("sha256:") + 12
_STILL_WAITING = 3
"""Exit code when others need more time than `--wait` gave them."""

_STACK = click.option(
    "--stack", required=True, help="The deployed stack's name, as sam deploy was given it"
)


@click.command()
@click.argument("base_path")
@_STACK
def status(base_path: str, stack: str) -> None:
    """Show each version of the model in BASE_PATH, s3://bucket/prefix/NAME, and what is next."""
    from lambda_serving.release.deciding.next_action import plan

    seen = _gateway(base_path, stack).observe()
    plain_console().print(_table(seen))
    for key in seen.odd:
        click.echo(f"The key {key!r} is no name of a file, and counts for nothing", err=True)
    next_one = next(iter(plan(seen)), None)
    click.echo(f"Next: {next_one}" if next_one else "Nothing is to be done")


@click.command()
@click.argument("base_path")
@_STACK
@click.option("--local", is_flag=True, help="Compile and append images here, not in the stack")
@click.option("--op_libraries", default="", help="With --local: custom op libraries, as of serve")
@click.option("--wait", default=900, show_default=True, help="Seconds that all of it may take")
@click.option("--dry-run", is_flag=True, help="Only print the actions, as if each went well")
def reconcile(
    base_path: str,
    stack: str,
    local: bool,  # noqa: FBT001 - as click passes it
    op_libraries: str,
    wait: int,
    dry_run: bool,  # noqa: FBT001 - as click passes it
) -> None:
    """Do now what the stack's release function does for BASE_PATH, s3://bucket/prefix/NAME.

    Each version that the policy wants is compiled, put on the base image, published, asked
    whether it answers, and only then made live. One that fails is recorded under _releases and
    never sees traffic. Run it again after a failure: it goes on where things stand.
    """
    quiet()
    with _builder(base_path, split(op_libraries)) if local else nullcontext() as builder:
        gateway = _gateway(base_path, stack, builder)
        if dry_run:
            from lambda_serving.release.deciding.next_action import plan

            for action in plan(gateway.observe()):
                click.echo(action)
        elif not _go(gateway, wait):
            click.echo("Not everything is ready yet. Run this again to go on", err=True)
            sys.exit(_STILL_WAITING)


def _table(seen: "Deployment") -> "Table":
    """A line for each version there is, the largest first."""
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
    from lambda_serving.release.aws.records import state_of

    if version in seen.settling:
        return "COPYING"
    record = seen.record(version)
    return state_of(record) if record else "PUSHED"


def _traffic(number: int | None, seen: "Deployment") -> str:
    """What part of the requests that name no version goes to a function version."""
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


def _go(gateway: "AwsGateway", wait: int) -> bool:
    """Whether the model is where it should be, after as many looks as the time allows."""
    from lambda_serving.release.reconcile import reconcile

    pause, end = threading.Event(), time.monotonic() + wait
    while outcome := reconcile(gateway, click.echo):
        if time.monotonic() + _PATIENCE_SECONDS > end:
            click.echo(f"Waiting: {outcome.what}", err=True)
            return False
        pause.wait(_PATIENCE_SECONDS)
    return True


def _gateway(base_path: str, stack: str, builder: "Builder | None" = None) -> "AwsGateway":
    """To the model of the base path; raises InvalidArgument if it is not one of the stack's."""
    with _needed_packages():
        from lambda_serving.release.aws.stack import Clients, System

    clients = Clients.connect()
    system = System.deployed(stack, clients.functions)
    return system.gateway(
        system.model(base_path),
        clients,
        lambda servable, error: click.secho(f"{servable} failed: {error}", err=True, fg="red"),
        builder,
        lambda _, alias, error: click.secho(f"{alias} has no address: {error}", err=True, fg="red"),
    )


@contextmanager
def _builder(base_path: str, op_libraries: Sequence[str]) -> Iterator["Builder"]:
    """Builds here, with this machine's rights in the registry."""
    with _needed_packages():
        from lambda_serving.image import Registry, open_client
        from lambda_serving.release.aws import images
        from lambda_serving.release.build.image_builder import RegistryBuilder
        from lambda_serving.store import open_store
    name = base_path.rstrip("/").rpartition("/")[2]
    with temporary.folder() as downloads, open_client() as http:
        store = open_store({name: base_path}, downloads)
        yield RegistryBuilder(
            lambda base: Registry(http, images.passwords(base)), store, op_libraries
        )


@contextmanager
def _needed_packages() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise Unimplemented(
            f"A release needs more than is installed ({error}):"
            " pip install 'lambda-serving[compile,release]'"
        ) from error
