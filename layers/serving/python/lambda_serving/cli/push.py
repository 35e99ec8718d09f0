"""`lambda-serving push`: a SavedModel becomes a version in a bucket or a folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import plain_console
from lambda_serving.cli.options import loading

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.release.push import Progress, Pushed

__all__ = ["push"]

_QUIET_SECONDS = 2.0


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination")
@loading
def push(
    source: Path,
    destination: str,
    saved_model_tags: str,
    op_libraries: str,
    cache_dir: Path | None,
) -> None:
    """Push the SavedModel in SOURCE to DESTINATION, the folder of a new version.

    DESTINATION is s3://BUCKET/PREFIX/VERSION or a folder of this machine. The model is loaded as
    the server loads it, warm-up included, then copied, its manifest last. A broken-off push goes
    on where it stopped; the same files again are no change, other files are refused.

    A SavedModel may have requests and the answers to them in assets.extra/golden.jsonl, one
    {"request": {...}, "response": {...}} a line; predict --golden prints such lines. A model that
    answers otherwise is not pushed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("lambda_serving").setLevel(logging.ERROR)  # problems are shown below
    from lambda_serving.release import push as pushing
    from lambda_serving.servables.saved_model import load
    from lambda_serving.servables.tensorflow_c.library import load_op_library
    from lambda_serving.store.push_target import open_version

    _check(source)
    version = open_version(destination)
    for path in filter(None, op_libraries.split(",")):
        load_op_library(path)
    load_it = partial(load, tags=saved_model_tags.split(","), cache=cache_dir)
    with _progress(f"{source} -> {version}") as progress:
        pushed = pushing.push(source, version, load_it, progress)
    _show(str(version), pushed)


def _check(source: Path) -> None:
    """Raises NotFound when there is no SavedModel, InvalidArgument when there are several."""
    from lambda_serving.cli.exports import exports
    from lambda_serving.errors import InvalidArgument

    if (found := exports(source)) != [source]:
        raise InvalidArgument(
            f"SOURCE {source} holds no SavedModel but versions: {', '.join(p.name for p in found)}."
            f" Push one of them, such as {found[-1]}"
        )


@contextmanager
def _progress(title: str) -> Iterator["Progress"]:
    """A bar on a terminal; elsewhere a line for each stage that begins late or takes long."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console, start = plain_console(stderr=True), monotonic()
    if console.is_terminal:
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
        ]
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=None)
            yield lambda stage, done, total: bar.update(
                task, description=f"{title}: {stage}", completed=done, total=total or None
            )
        return
    told = set[str]()

    def tell(stage: str, _: int, total: int) -> None:
        if stage not in told and (seconds := monotonic() - start) > _QUIET_SECONDS:
            told.add(stage)
            size = f" {total / 2**20:.1f} MiB" if total else ""
            console.print(f"{title}: {stage}{size} ({seconds:.0f} s)", soft_wrap=True)

    yield tell


def _show(version: str, pushed: "Pushed") -> None:
    for problem in pushed.problems:
        click.secho(f"Warning: {problem}.", err=True, fg="yellow")
    count, size = len(pushed.manifest.files), pushed.manifest.size / 2**20
    if not pushed.new:
        click.echo(f"{version} has these {count} files already. Nothing to do")
        return
    before = count - len(pushed.copied)
    rest = f", {before} of them were there already" if before else ""
    pairs = f". Golden pairs checked: {pushed.golden_pairs}" if pushed.golden_pairs else ""
    click.echo(f"{version}: pushed {count} files, {size:.1f} MiB{rest}{pairs}")
