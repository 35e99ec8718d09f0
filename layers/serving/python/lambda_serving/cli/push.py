"""`lambda-serving push`: copies a SavedModel to a bucket or a folder, as a new version."""

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
    """Check the SavedModel in SOURCE, and copy it to DESTINATION as a new version.

    DESTINATION is s3://BUCKET/PREFIX/NAME/VERSION or a folder on this machine. The model is first
    loaded like the server loads it, warm-up included; then it is copied, its manifest last. Run an
    interrupted push again and it continues. A version's files cannot change: pushing the same files
    again does nothing, and pushing others is refused.

    A SavedModel may hold requests with the answers it must give, in assets.extra/golden.jsonl: one
    {"request": {...}, "response": {...}} per line, as predict --golden prints it. A model that
    gives other answers is not pushed.
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
    """Raises NotFound if there is no SavedModel, InvalidArgument for a base path."""
    from lambda_serving.cli.exports import exports
    from lambda_serving.errors import InvalidArgument

    if (found := exports(source)) != [source]:
        raise InvalidArgument(
            f"SOURCE {source} is a base path with versions {', '.join(p.name for p in found)}."
            f" Push one of them, such as {found[-1]}"
        )


def _show(version: str, pushed: "Pushed") -> None:
    for problem in pushed.problems:
        click.secho(f"Warning: {problem}.", err=True, fg="yellow")
    count, size = len(pushed.manifest.files), pushed.manifest.size / 2**20
    if not pushed.new:
        click.echo(f"{version} already has these {count} files. Nothing to do")
        return
    before = count - len(pushed.copied)
    rest = f", of which {before} were already there" if before else ""
    pairs = f". Golden pairs checked: {pushed.golden_pairs}" if pushed.golden_pairs else ""
    click.echo(f"{version}: pushed {count} files, {size:.1f} MiB{rest}{pairs}")
