"""`lambda-serving reconcile`: the newest pushed version of a model becomes the live one."""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_serving.errors import Unimplemented

if TYPE_CHECKING:  # see cli.inspect
    from rich.table import Table

    from lambda_serving.release.deployment import Deployment, Record
    from lambda_serving.release.gateway import AwsGateway
    from lambda_serving.version_policy import VersionPolicy

__all__ = ["reconcile"]

_PATIENCE_SECONDS = 3.0
_SHOWN = len("sha256:") + 12
_STILL_WAITING = 3
"""Exit code when Lambda needs more time than `--wait` gave it."""


@click.command()
@click.argument("base_path")
@click.option("--function", required=True, help="The function's name, as STACK-MODEL")
@click.option("--repository", required=True, help="Where its images are: HOST/NAME, in ECR")
@click.option(
    "--base_tag", default="base", show_default=True, help="Tag there of the image without a model"
)
@click.option("--version", type=int, help="Serve this version; the largest one without it")
@click.option("--op_libraries", default="", help="Custom op libraries, comma-separated paths")
@click.option(
    "--wait", default=300, show_default=True, help="Seconds that Lambda may take for its part"
)
@click.option("--dry-run", is_flag=True, help="Only show how things stand and what comes next")
def reconcile(
    base_path: str,
    function: str,
    repository: str,
    base_tag: str,
    version: int | None,
    op_libraries: str,
    wait: int,
    dry_run: bool,  # noqa: FBT001 as click passes it
) -> None:
    """Make the newest version in BASE_PATH, s3://bucket/prefix/NAME, the one that is served.

    Each version that was pushed there is compiled, put on the base image, published, asked
    whether it answers, and only then made live. One that fails is recorded under _releases and
    never sees traffic. Run it again after a failure: it goes on where things stand.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("lambda_serving").setLevel(logging.ERROR)
    from lambda_serving.version_policy import Latest, Specific

    policy = Latest() if version is None else Specific(frozenset({version}))
    libraries = [path for path in op_libraries.split(",") if path]
    with _gateway(base_path, function, repository, base_tag, libraries) as gateway:
        if dry_run:
            _show_next(policy, gateway)
        elif not _go(policy, gateway, wait):
            click.echo("Lambda is not ready yet. Run this again to go on", err=True)
            sys.exit(_STILL_WAITING)


def _show_next(policy: "VersionPolicy", gateway: "AwsGateway") -> None:
    from rich.console import Console

    from lambda_serving.release.actions import next_action
    from lambda_serving.version_policy import aspired

    seen = gateway.observe()
    Console(markup=False, highlight=False).print(_table(seen))
    action = next_action(aspired(policy, seen.manifests.keys()), seen)
    click.echo(f"Next: {action}" if action else "Nothing is to be done")


def _table(seen: "Deployment") -> "Table":
    """A line for each version that was pushed, the largest first."""
    from rich.table import Table

    table = Table("version", "state", "function version", "image", "error")
    for version in sorted(seen.manifests, reverse=True):
        record, published = seen.record(version), seen.published(version)
        number = published.number if published else None
        image, error = (record.image, record.error) if record else (None, None)
        table.add_row(
            str(version),
            _state(record, is_live=number is not None and number == seen.live),
            str(number or ""),
            (image or "")[:_SHOWN],
            error,
        )
    return table


def _state(record: "Record | None", *, is_live: bool) -> str:
    if is_live:
        return "live"
    if record is None:
        return "pushed"
    return "failed" if record.error else "warm" if record.warm else "built"


def _go(policy: "VersionPolicy", gateway: "AwsGateway", wait: int) -> bool:
    """Whether the model is where it should be, after as many looks as the time allows."""
    from lambda_serving.release.reconcile import reconcile

    pause = threading.Event()
    for _ in range(1 + int(wait / _PATIENCE_SECONDS)):
        if reconcile(policy, gateway, click.echo) is None:
            return True
        pause.wait(_PATIENCE_SECONDS)
    return False


@contextmanager
def _gateway(
    base_path: str, function: str, repository: str, base_tag: str, op_libraries: Sequence[str]
) -> Iterator["AwsGateway"]:
    try:
        from lambda_serving.builder import RegistryBuilder
        from lambda_serving.image import Registry, open_client
        from lambda_serving.release import gateway
        from lambda_serving.release.bucket import BucketReleases
        from lambda_serving.store import open_store
    except ModuleNotFoundError as error:
        raise Unimplemented(
            f"A release needs more than is installed ({error}):"
            " pip install 'lambda-serving[compile,release]'"
        ) from error

    releases = BucketReleases(base_path)
    with tempfile.TemporaryDirectory(prefix="lambda-serving-") as downloads, open_client() as http:
        builder = RegistryBuilder(
            Registry(http, gateway.registry_passwords(repository)),
            repository,
            base_tag,
            open_store({releases.name: base_path}, Path(downloads)),
            op_libraries,
        )
        yield gateway.AwsGateway(
            releases.name,
            function,
            repository,
            functions=gateway.connect(),
            releases=releases,
            builder=builder,
        )
