"""`lambda-serving batch`: files of rows through a model, on this machine or as AWS Batch's job."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import plain_console
from lambda_serving.cli.exports import newest
from lambda_serving.cli.options import loading
from lambda_serving.store import temporary

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.batch_job import Done
    from lambda_serving.store.job_files import Input

__all__ = ["batch"]

_BAD_ROWS = 4  # the exit code
_Told = Callable[["Input", int], None]


@click.command()
@click.argument("model")
@click.option(
    "--input", "pattern", required=True, help="Files of rows, such as 's3://b/in/*.jsonl'"
)
@click.option("--output", "place", required=True, help="Folder or s3:// prefix of predictions")
@click.option("--signature_name", default="", help="Which signature; serving_default without it")
@click.option(
    "--batch_size", type=click.IntRange(1), default=64, show_default=True, help="Rows of a run"
)
@click.option(
    "--format",
    "row_format",
    type=click.Choice(["jsonl", "tfrecord", "npz"]),
    help="What the files are (default: their extension tells)",
)
@click.option(
    "--shards",
    type=click.IntRange(1),
    default=1,
    envvar="AWS_BATCH_JOB_ARRAY_SIZE",
    show_envvar=True,
    help="How many processes share the files",
)
@click.option(
    "--shard",
    type=click.IntRange(0),
    default=0,
    envvar="AWS_BATCH_JOB_ARRAY_INDEX",
    show_envvar=True,
    help="Which of them this is, from 0 on",
)
@click.option("--max_bad_rows", type=click.IntRange(0), help="Stop when there are more")
@loading
def batch(
    model: str,
    pattern: str,
    place: str,
    signature_name: str,
    batch_size: int,
    row_format: str | None,
    shards: int,
    shard: int,
    max_bad_rows: int | None,
    saved_model_tags: str,
    op_libraries: str,
    cache_dir: Path | None,
) -> None:
    """Predict all rows of the input files by MODEL, a file of predictions for each.

    MODEL is the folder of a version or a base path, of which the largest version is taken; like
    the files, on this machine or in s3://. Files are JSON lines (a line is one of predict's
    instances), TFRecord (of serialized tf.Examples) or npz (arrays by input). What is done is not
    done again: a job that was killed goes on when it is run again.

    Bad rows have their error in place of a prediction, and are listed in NAME.errors.jsonl; the
    exit code is then 4. It is 1 when a file could not be read, or nothing could be done.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("lambda_serving").setLevel(logging.ERROR)
    from lambda_serving import batch_job
    from lambda_serving.servables.saved_model import load
    from lambda_serving.servables.tensorflow_c.library import load_op_library
    from lambda_serving.store.job_files import open_inputs, open_outputs

    if shard >= shards:
        raise click.UsageError(f"--shard {shard} is not below --shards {shards}.")
    inputs, outputs = open_inputs(pattern), open_outputs(place)
    files = batch_job.shard_of(inputs.find(), shard, shards)
    if not files:
        click.echo(f"Nothing to do: there are fewer files than {shards} shards")
        return
    for path in filter(None, op_libraries.split(",")):
        load_op_library(path)
    with temporary.folder("batch-") as fetched:
        export_dir = newest(model, fetched)
        with (
            load(export_dir, tags=saved_model_tags.split(","), cache=cache_dir) as servable,
            _progress(len(files)) as progress,
        ):
            made = batch_job.Job(
                servable,
                batch_job.digest(export_dir),
                signature_name,
                batch_size,
                batch_job.RowFormat(row_format) if row_format else None,
                max_bad_rows,
            )
            start = monotonic()
            try:
                done = [
                    _tell(each, outputs)
                    for each in batch_job.run(made, inputs, outputs, files, progress)
                ]
            except batch_job.TooManyBadRows as error:
                click.echo(f"Error: {error}", err=True)
                sys.exit(_BAD_ROWS)
    _end(done, monotonic() - start)


@contextmanager
def _progress(count: int) -> Iterator["_Told"]:
    """A bar on a terminal, elsewhere nothing: each file is told when it is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = plain_console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = [BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)]
    with Progress(*columns, console=console, transient=True) as bar:
        task, names = bar.add_task("", total=count), list[str]()

        def tell(file: "Input", rows: int) -> None:
            if [file.name] != names[-1:]:
                names.append(file.name)
            bar.update(task, completed=len(names) - 1, description=f"{file.name}: {rows} rows")

        yield tell


def _tell(done: "Done", place: object) -> "Done":
    """Prints what became of a file."""
    if done.failure:
        click.echo(f"Error: {done.name}: {done.failure}", err=True)
        return done
    bad = f", {done.bad_rows} of them bad" if done.bad_rows else ""
    before = "" if done.new else " (done before)"
    click.echo(f"{done.name}: {done.rows} rows{bad} -> {place}/{done.output}{before}")
    return done


def _end(done: list["Done"], seconds: float) -> None:
    """Prints the sum of it all and exits with the code that says how it went."""
    failed = sum(bool(each.failure) for each in done)
    bad = sum(each.bad_rows for each in done)
    rows = sum(each.rows for each in done if each.new)
    told = f"{len(done)} files, {rows} rows in {seconds:.1f} s"
    click.echo(f"{told}; bad rows: {bad}, failed files: {failed}")
    if failed or bad:
        sys.exit(1 if failed else _BAD_ROWS)
