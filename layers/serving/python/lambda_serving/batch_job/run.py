"""Files of rows, each to a file of predictions; what was done before is not done again.

While rows are run, one thread reads the next ones and another writes the last ones.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from shutil import copyfileobj
from typing import IO

from lambda_serving.batch_job.chunks import Chunk
from lambda_serving.batch_job.outputs import (
    Record,
    Task,
    errors_name,
    open_writer,
    record_name,
    report,
)
from lambda_serving.batch_job.predictions import predict, rows_at_once
from lambda_serving.batch_job.readers import RowFormat, chunks, format_of
from lambda_serving.errors import Aborted, DataLoss, InvalidArgument
from lambda_serving.servables.servable import Servable
from lambda_serving.store import temporary
from lambda_serving.store.job_files import Inputs, Outputs
from lambda_serving.store.patterns import Input

__all__ = ["Done", "Job", "TooManyBadRows", "run", "shard_of"]

_AHEAD = 2
"""How often a thread reads before that is needed, and how many outputs wait to be written."""
_WORTH = 2 * 2**20
"""Bytes of inputs that are handed from thread to thread at once, in chunks, but not over:"""
_MOST = 32


class TooManyBadRows(Exception):
    """The job was stopped, as it was told to be."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with every file; `model` is a digest of all files of the SavedModel.

    `row_format` is that of all files, or None: each one's name tells. `max_bad_rows` is how many
    there may be in all files together, None is any number.
    """

    servable: Servable
    model: str
    signature_name: str = ""
    batch_size: int = 64
    row_format: RowFormat | None = None
    max_bad_rows: int | None = None

    def task(self, file: Input) -> Task:
        """Raises InvalidArgument for a signature that is not there, a name that tells no format."""
        signature = self.servable.signature(self.signature_name)
        return Task(file, self.model, signature.name, self.row_format or format_of(file.name))


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a file: `new` unless it was done before; `failure` if it cannot be read."""

    name: str
    output: str = ""
    rows: int = 0
    bad_rows: int = 0
    new: bool = True
    failure: str = ""


def shard_of(files: Sequence[Input], shard: int, shards: int) -> Sequence[Input]:
    """The files that process `shard` of `shards`, from 0 on, does; each file is one process's."""
    return files[shard::shards]


def run(
    job: Job,
    inputs: Inputs,
    outputs: Outputs,
    files: Iterable[Input],
    progress: Callable[[Input, int], None] = lambda *_: None,
) -> Iterator[Done]:
    """Does one file after the other and tells of each; `progress` hears how many rows were run.

    A file that cannot be read as rows, or whose outputs its format cannot hold, fails, and the
    next is done. Raises what `Job.task` raises, InvalidArgument when outputs would be inputs of
    the pattern, TooManyBadRows, and what inputs and outputs raise.
    """
    tasks = [job.task(file) for file in files]
    for task in tasks:
        _check_apart(inputs, f"{outputs}/", task)
    there, bad_rows = outputs.sizes(), 0
    for task in tasks:
        record = _record(outputs, there, task)
        new = record is None
        try:
            record = record or _do(job, task, inputs, outputs, there, bad_rows, progress)
        except (Aborted, DataLoss, InvalidArgument) as error:
            yield Done(task.input.name, failure=str(error))
            continue
        bad_rows += record.bad_rows
        yield Done(task.input.name, task.output, record.rows, record.bad_rows, new=new)


def _check_apart(inputs: Inputs, place: str, task: Task) -> None:
    """Raises InvalidArgument when what is made would be taken for an input the next time."""
    for name in (task.output, errors_name(task.input.name), record_name(task.input.name)):
        if inputs.includes(place + name):
            raise InvalidArgument(
                f"{place}{name} would be one of the inputs. Choose another place for outputs"
            )


def _record(outputs: Outputs, there: Mapping[str, int], task: Task) -> Record | None:
    """What was done of this very task, None if it is to be done."""
    name = record_name(task.input.name)
    record = Record.of_json(outputs.read(name)) if name in there else None
    is_done = record and record.task == task and record.size == there.get(task.output)
    return record if is_done else None


def _do(
    job: Job,
    task: Task,
    inputs: Inputs,
    outputs: Outputs,
    there: Mapping[str, int],
    bad_before: int,
    progress: Callable[[Input, int], None],
) -> Record:
    """Makes the outputs of a file, the record last; one of something else is taken back first."""
    name = task.input.name
    if record_name(name) in there:
        _put(outputs, record_name(name), b"{}\n")
    with outputs.put(task.output) as path, temporary.file() as report_file:
        bad = _Bad(report_file, job.max_bad_rows, bad_before)
        rows = 0
        try:
            with inputs.open(task.input) as stream, open_writer(path, task.row_format) as writer:
                for chunk in _predicted(job, task, stream, writer.add):
                    rows += chunk.size
                    bad.add(chunk)
                    progress(task.input, rows)
                writer.finish()
        except TooManyBadRows:
            _put(outputs, errors_name(name), report_file)
            raise
        if bad.count or errors_name(name) in there:
            _put(outputs, errors_name(name), report_file)
        size = path.stat().st_size
    record = Record(task, rows, bad.count, size)
    _put(outputs, record_name(name), record.to_json())
    return record


class _Bad:
    """Counts and reports bad rows."""

    def __init__(self, file: IO[bytes], most: int | None, before: int) -> None:
        self._file, self._most, self._before, self.count = file, most, before, 0

    def add(self, chunk: Chunk) -> None:
        """Raises TooManyBadRows."""
        report(chunk, self._file)
        self.count += len(chunk.errors)
        if self._most is not None and self.count + self._before > self._most:
            raise TooManyBadRows(
                f"There are more than {self._most} bad rows. Stopped; correct them, or raise"
                " --max_bad_rows"
            )


def _predicted(
    job: Job, task: Task, stream: IO[bytes], write: Callable[[Chunk], None]
) -> Iterator[Chunk]:
    """The chunks of a file after they were run, each about to be written."""
    signature = job.servable.signature(task.signature_name)
    size = rows_at_once(signature, job.batch_size)
    source = chunks(stream, task.row_format, signature, size)
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        read = deque(reading.submit(_next, source) for _ in range(_AHEAD))
        written = deque[Future[None]]()
        while taken := read.popleft().result():
            read.append(reading.submit(_next, source))
            done = [predict(job.servable, signature, chunk) for chunk in taken]
            written.append(writing.submit(_each, write, done))
            if len(written) > _AHEAD:
                written.popleft().result()
            yield from done
        for each in written:
            each.result()


def _next(source: Iterator[Chunk]) -> list[Chunk]:
    """Some chunks, none at the end: enough for a thread to be worth its while."""
    taken, size = [], 0
    for chunk in source:
        taken.append(chunk)
        size += sum(array.nbytes for part in chunk.parts for array in part.arrays.values())
        if size >= _WORTH or len(taken) == _MOST:
            break
    return taken


def _each(write: Callable[[Chunk], None], chunks: Iterable[Chunk]) -> None:
    for chunk in chunks:
        write(chunk)


def _put(outputs: Outputs, name: str, content: bytes | IO[bytes]) -> None:
    with outputs.put(name) as path, path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content.seek(0)
            copyfileobj(content, file)
