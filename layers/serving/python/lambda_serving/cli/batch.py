"""`lambda-serving batch`: predicts files of rows, on this machine or as an AWS Batch job."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from lambda_serving.cli.console import stages
from lambda_serving.cli.exports import newest
from lambda_serving.cli.options import Loading, loading
from lambda_serving.store import temporary

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving import batch_job
    from lambda_serving.batch_job import Done
    from lambda_serving.store.job_files import Inputs, Outputs
    from lambda_serving.store.patterns import Input

__all__ = ["batch"]

_BAD_ROWS = 4  # exit code


@click.command()
@click.argument("model")
@click.option(
    "--input", "pattern", required=True, help="Files of rows to read, such as 's3://b/in/*.jsonl'"
)
@click.option("--output", "place", required=True, help="Folder or s3:// prefix for predictions")
@click.option("--signature_name", default="", help="Signature to run (default: serving_default)")
@click.option(
    "--batch_size", type=click.IntRange(1), default=64, show_default=True, help="Rows per run"
)
@click.option(
    "--format",
    "row_format",
    type=click.Choice(["jsonl", "tfrecord", "npz"]),
    help="Format of the input files (default: by extension)",
)
@click.option(
    "--shards",
    type=click.IntRange(1),
    default=1,
    envvar="AWS_BATCH_JOB_ARRAY_SIZE",
    show_envvar=True,
    help="Number of processes that share the files",
)
@click.option(
    "--shard",
    type=click.IntRange(0),
    default=0,
    envvar="AWS_BATCH_JOB_ARRAY_INDEX",
    show_envvar=True,
    help="Index of this process, from 0",
)
@click.option(
    "--max_bad_rows", type=click.IntRange(0), help="Stop when more rows than this are bad"
)
@loading
def batch(
    model: str, pattern: str, place: str, shards: int, shard: int, loading: Loading, **rows: Any
) -> None:
    """Predict every row of the input files with MODEL, one output file per input file.

    MODEL is a version's folder, or a base path whose largest version is used. MODEL and the files
    may be on this machine or in s3://. Input files are JSON lines (each line is one of predict's
    instances), TFRecord (serialized tf.Examples) or npz (one array per input). Run a job again
    after it was killed, and it continues: finished files are skipped.

    A bad row gets an error in place of its prediction, and NAME.errors.jsonl lists it; the exit
    code is then 4. The exit code is 1 if a file could not be read or the job could not start.
    """
    from lambda_serving import batch_job
    from lambda_serving.store.job_files import open_inputs, open_outputs

    if shard >= shards:
        raise click.UsageError(f"--shard {shard} is not below --shards {shards}.")
    inputs, outputs = open_inputs(pattern), open_outputs(place)
    files = batch_job.shard_of(inputs.find(), shard, shards)
    if not files:
        click.echo(f"Nothing to do: there are fewer files than {shards} shards")
        return
    with _job(model, loading, **rows) as job:
        start = monotonic()
        try:
            done = _run(job, model, inputs, outputs, files)
        except batch_job.TooManyBadRows as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(_BAD_ROWS)
        seconds = monotonic() - start
    _end(done, seconds)


@contextmanager
def _job(
    model: str, loading: Loading, *, row_format: str | None, **rows: Any
) -> Iterator["batch_job.Job"]:
    """Yields the job with MODEL loaded; `rows` are further fields of `Job`."""
    from lambda_serving import batch_job

    load = loading.loader()
    made = batch_job.RowFormat(row_format) if row_format else None
    with temporary.folder("batch-") as fetched, ExitStack() as loaded:
        with stages(model) as progress:
            progress("fetching")
            export_dir = newest(model, fetched)
            progress("loading")
            servable = loaded.enter_context(load(export_dir))
            model_digest = batch_job.digest(export_dir, loading.variant(export_dir))
        yield batch_job.Job(servable, model_digest, row_format=made, **rows)


def _run(
    job: "batch_job.Job", model: str, inputs: "Inputs", outputs: "Outputs", files: Sequence["Input"]
) -> list["Done"]:
    from lambda_serving import batch_job

    with _progress(model, len(files)) as progress:
        found = batch_job.run(job, inputs, outputs, files, progress)
        return [_tell(each, outputs) for each in found]


@contextmanager
def _progress(model: str, count: int) -> Iterator[Callable[["Input", int], None]]:
    """Yields a function that takes the file under way, and how many of its rows are done."""
    from rich.progress import BarColumn, MofNCompleteColumn

    names, rows_done = list[str](), 0

    def size(done: int, total: int) -> str:
        return f"{rows_done} rows, {done} of {total} files done"

    with stages(model, BarColumn(), MofNCompleteColumn(), size=size) as progress:

        def tell(file: "Input", rows: int) -> None:
            nonlocal rows_done
            rows_done = rows
            if [file.name] != names[-1:]:
                names.append(file.name)
            progress(file.name, len(names) - 1, count)

        progress("predicting", 0, count)
        yield tell


def _tell(done: "Done", place: object) -> "Done":
    """Prints a file's outcome, and returns it."""
    if done.failure:
        click.echo(f"Error: {done.name}: {done.failure}", err=True)
        return done
    bad = f", {done.bad_rows} of them bad" if done.bad_rows else ""
    before = "" if done.new else " (done before)"
    click.echo(f"{done.name}: {done.rows} rows{bad} -> {place}/{done.output}{before}")
    return done


def _end(done: list["Done"], seconds: float) -> None:
    """Prints the totals, and exits with the matching code."""
    failed = sum(bool(each.failure) for each in done)
    bad = sum(each.bad_rows for each in done)
    rows = sum(each.rows for each in done if each.new)
    told = f"{len(done)} files, {rows} rows in {seconds:.1f} s"
    click.echo(f"{told}; bad rows: {bad}, failed files: {failed}")
    if failed or bad:
        sys.exit(1 if failed else _BAD_ROWS)
