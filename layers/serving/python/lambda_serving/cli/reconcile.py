"""`lambda-serving status` and `reconcile`: show a model's release, and run it by hand."""

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
"""Exit code when the release is not finished after `--wait`."""

_STACK = click.option(
    "--stack", required=True, help="Name of the deployed stack, as given to sam deploy"
)


@click.command()
@click.argument("base_path")
@_STACK
def status(base_path: str, stack: str) -> None:
    """Show a model's versions, and the next step of its release.

    BASE_PATH is s3://BUCKET/PREFIX/NAME.
    """
    from lambda_serving.release.deciding.next_action import plan

    seen = _gateway(base_path, stack).observe()
    plain_console().print(_table(seen))
    for key in seen.odd:
        click.echo(f"The key {key!r} is not a file name, and is ignored", err=True)
    next_one = next(iter(plan(seen)), None)
    click.echo(f"Next: {next_one}" if next_one else "Nothing to do")


@click.command()
@click.argument("base_path")
@_STACK
@click.option("--local", is_flag=True, help="Compile, and build images, on this machine")
@click.option(
    "--op_libraries", default="", help="With --local: comma-separated paths of custom op libraries"
)
@click.option(
    "--wait", default=900, show_default=True, help="Seconds to wait until the release is finished"
)
@click.option("--dry-run", is_flag=True, help="Only print the actions, assuming that each succeeds")
def reconcile(
    base_path: str,
    stack: str,
    local: bool,  # noqa: FBT001 - as click passes it
    op_libraries: str,
    wait: int,
    dry_run: bool,  # noqa: FBT001 - as click passes it
) -> None:
    """Release a model now, as the stack's release function does.

    BASE_PATH is s3://BUCKET/PREFIX/NAME. Each version in the policy is compiled, added to the base
    image, published and tried, and only then made live. A version that fails is recorded under
    _releases and never gets traffic. After a failure, run the command again: it continues.
    """
    quiet()
    with _builder(base_path, split(op_libraries)) if local else nullcontext() as builder:
        gateway = _gateway(base_path, stack, builder)
        if dry_run:
            from lambda_serving.release.deciding.next_action import plan

            for action in plan(gateway.observe()):
                click.echo(action)
        elif not _go(gateway, wait):
            click.echo("The release is not finished. Run the command again to continue", err=True)
            sys.exit(_STILL_WAITING)


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


def _go(gateway: "AwsGateway", wait: int) -> bool:
    """Reconciles until the model is released or `wait` seconds are over; whether it is."""
    from lambda_serving.release.reconcile import reconcile

    pause, end = threading.Event(), time.monotonic() + wait
    while outcome := reconcile(gateway, click.echo):
        if time.monotonic() + _PATIENCE_SECONDS > end:
            click.echo(f"Waiting: {outcome.what}", err=True)
            return False
        pause.wait(_PATIENCE_SECONDS)
    return True


def _gateway(base_path: str, stack: str, builder: "Builder | None" = None) -> "AwsGateway":
    """The gateway to the model; raises InvalidArgument for a model that is not in the stack."""
    with _needed_packages():
        from lambda_serving.release.aws.stack import Clients, System

    clients = Clients.connect()
    system = System.deployed(stack, clients.functions)
    return system.gateway(
        system.model(base_path),
        clients,
        lambda servable, error: click.secho(f"{servable} failed: {error}", err=True, fg="red"),
        builder,
        lambda _, alias, error: click.secho(f"{alias} has no URL: {error}", err=True, fg="red"),
    )


@contextmanager
def _builder(base_path: str, op_libraries: Sequence[str]) -> Iterator["Builder"]:
    """Builds images on this machine, with its own rights in the registry."""
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
            f"Packages for releases are missing ({error}). Install them:"
            " pip install 'lambda-serving[compile,release]'"
        ) from error
