"""`lambda-serving reconcile`: releases a model by hand."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import Stages, quiet, stages
from lambda_serving.cli.deployed_stack import open_gateway, stack_option
from lambda_serving.cli.options import split
from lambda_serving.store import temporary

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.release.aws.build_orders import Builder
    from lambda_serving.release.aws.deployed_model import AwsGateway
    from lambda_serving.release.deciding.actions import Action

__all__ = ["reconcile"]

_PATIENCE_SECONDS = 3.0
_STILL_WAITING = 3
"""Exit code when the release is not finished after `--wait`."""


@click.command()
@click.argument("base_path")
@stack_option
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
        gateway = open_gateway(base_path, stack, builder)
        with stages(base_path) as progress:
            progress("asking AWS")
            if dry_run:
                from lambda_serving.release.deciding.next_action import plan

                for action in plan(gateway.observe()):
                    click.echo(action)
            elif not _go(gateway, wait, progress):
                click.echo(
                    "The release is not finished. Run the command again to continue", err=True
                )
                sys.exit(_STILL_WAITING)


def _go(gateway: "AwsGateway", wait: int, progress: Stages) -> bool:
    """Reconciles until the model is released or `wait` seconds are over; whether it is."""
    from lambda_serving.release.reconcile import reconcile

    def tell(action: "Action") -> None:
        click.echo(action)
        progress(str(action))

    pause, end = threading.Event(), time.monotonic() + wait
    while outcome := reconcile(gateway, tell):
        if time.monotonic() + _PATIENCE_SECONDS > end:
            click.echo(f"Waiting: {outcome.what}", err=True)
            return False
        progress(f"waiting: {outcome.what}")
        pause.wait(_PATIENCE_SECONDS)
    return True


@contextmanager
def _builder(base_path: str, op_libraries: Sequence[str]) -> Iterator["Builder"]:
    """Builds images on this machine, with its own rights in the registry."""
    from lambda_serving.image import Registry, open_client
    from lambda_serving.release.aws import images
    from lambda_serving.release.build.image_builder import RegistryBuilder
    from lambda_serving.store import open_store

    name = base_path.rstrip("/").rpartition("/")[2]
    with temporary.folder() as downloads, open_client() as http:
        store = open_store({name: base_path}, downloads)
        yield RegistryBuilder(
            lambda *bases: Registry(http, images.passwords(*bases)), store, op_libraries
        )
