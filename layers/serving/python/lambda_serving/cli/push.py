"""`lambda-serving push`: a SavedModel becomes a version in a bucket or a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import stages
from lambda_serving.cli.options import Loading, loading

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.release.push import Pushed

__all__ = ["push"]


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination")
@loading
def push(source: Path, destination: str, loading: Loading) -> None:
    """Push the SavedModel in SOURCE to DESTINATION, the folder of a new version.

    DESTINATION is s3://BUCKET/PREFIX/VERSION or a folder of this machine. The model is loaded as
    the server loads it, warm-up included, then copied, its manifest last. A broken-off push goes
    on where it stopped; the same files again are no change, other files are refused.

    A SavedModel may have requests and the answers to them in assets.extra/golden.jsonl, one
    {"request": {...}, "response": {...}} a line; predict --golden prints such lines. A model that
    answers otherwise is not pushed.
    """
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

    from lambda_serving.release import push as pushing
    from lambda_serving.store.push_target import open_version

    _check(source)
    version = open_version(destination)
    load = loading.loader()
    columns = BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn()
    with stages(f"{source} -> {version}", *columns) as progress:
        pushed = pushing.push(source, version, load, progress)
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
