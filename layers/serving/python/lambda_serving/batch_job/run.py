"""Turns each file of rows into a file of predictions, unless an earlier run has done it.

While rows run, one thread reads the next ones and another writes the previous ones.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from shutil import copyfileobj
from typing import IO

from lambda_serving.batch_job.chunks import Chunk
from lambda_serving.batch_job.outputs import open_writer, report_errors
from lambda_serving.batch_job.predictions import predict, rows_at_once
from lambda_serving.batch_job.readers import RowFormat, chunks, format_of
from lambda_serving.batch_job.receipts import Assignment, Receipt
from lambda_serving.errors import Aborted, DataLoss, InvalidArgument
from lambda_serving.servables.servable import Servable
from lambda_serving.store import temporary
from lambda_serving.store.job_files import Inputs, Outputs
from lambda_serving.store.patterns import Input

__all__ = ["Done", "Job", "TooManyBadRows", "run", "shard_of"]

_AHEAD = 2
"""How many reads happen before they are needed, and how many outputs wait to be written."""
_WORTH = 2 * 2**20
"""Bytes of inputs that one thread hands to another at once, in chunks."""
_MOST = 32
"""The most chunks that it hands over at once."""


class TooManyBadRows(Exception):
    """The job has stopped, because it found more bad rows than allowed."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do with every file; `model` is the `digest` of the SavedModel.

    `row_format` is for all files; None takes it from each name. `max_bad_rows` limits the bad rows
    of all files together; None allows any number.
    """

    servable: Servable
    model: str
    signature_name: str = ""
    batch_size: int = 64
    row_format: RowFormat | None = None
    max_bad_rows: int | None = None

    def task(self, file: Input) -> Assignment:
        """Raises InvalidArgument for an unknown signature, or a name without a known format."""
        signature = self.servable.signature(self.signature_name)
        row_format = self.row_format or format_of(file.name)
        return Assignment(file, self.model, signature.name, row_format)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a file: `new` unless an earlier run did it; `failure` says why it failed."""

    name: str
    output: str = ""
    rows: int = 0
    bad_rows: int = 0
    new: bool = True
    failure: str = ""


def shard_of(files: Sequence[Input], shard: int, shards: int) -> Sequence[Input]:
    """The files for process number `shard`, from 0, of `shards`; each file is in one share."""
    return files[shard::shards]


def run(
    job: Job,
    inputs: Inputs,
    outputs: Outputs,
    files: Iterable[Input],
    progress: Callable[[Input, int], None] = lambda *_: None,
) -> Iterator[Done]:
    """Does the files in turn, and yields each outcome; `progress` gets the rows done in a file.

    A file that cannot be read as rows, or whose outputs do not fit its format, fails, and the next
    one follows. Raises what `Job.task` raises, InvalidArgument when outputs would match the input
    pattern, TooManyBadRows, and what inputs and outputs raise.
    """
    tasks = [job.task(file) for file in files]
    for task in tasks:
        _check_apart(inputs, f"{outputs}/", task)
    there, bad_rows = outputs.sizes(), 0
    for task in tasks:
        receipt = _receipt(outputs, there, task)
        new = receipt is None
        try:
            receipt = receipt or _do(job, task, inputs, outputs, there, bad_rows, progress)
        except (Aborted, DataLoss, InvalidArgument) as error:
            yield Done(task.input.name, failure=str(error))
            continue
        bad_rows += receipt.bad_rows
        yield Done(task.input.name, task.output, receipt.rows, receipt.bad_rows, new=new)


def _check_apart(inputs: Inputs, place: str, task: Assignment) -> None:
    """Raises InvalidArgument if the next run would take an output for an input."""
    for name in (task.output, task.errors, task.receipt):
        if inputs.includes(place + name):
            raise InvalidArgument(
                f"{place}{name} would be one of the inputs. Choose another place for outputs"
            )


def _receipt(outputs: Outputs, there: Mapping[str, int], task: Assignment) -> Receipt | None:
    """The receipt of an earlier run for exactly this task; None if it is still to be done."""
    found = Receipt.of_json(outputs.read(task.receipt)) if task.receipt in there else None
    is_done = found and found.task == task and found.size == there.get(task.output)
    return found if is_done else None


def _do(
    job: Job,
    task: Assignment,
    inputs: Inputs,
    outputs: Outputs,
    there: Mapping[str, int],
    bad_before: int,
    progress: Callable[[Input, int], None],
) -> Receipt:
    """Writes the outputs of a file, the receipt last; an old receipt is made invalid first."""
    if task.receipt in there:
        _put(outputs, task.receipt, b"{}\n")
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
            _put(outputs, task.errors, report_file)
            raise
        if bad.count or task.errors in there:
            _put(outputs, task.errors, report_file)
        size = path.stat().st_size
    receipt = Receipt(task, rows, bad.count, size)
    _put(outputs, task.receipt, receipt.to_json())
    return receipt


class _Bad:
    """Counts and reports bad rows."""

    def __init__(self, file: IO[bytes], most: int | None, before: int) -> None:
        self._file, self._most, self._before, self.count = file, most, before, 0

    def add(self, chunk: Chunk) -> None:
        """Raises TooManyBadRows."""
        report_errors(chunk, self._file)
        self.count += len(chunk.errors)
        if self._most is not None and self.count + self._before > self._most:
            raise TooManyBadRows(
                f"There are more than {self._most} bad rows. Stopped; correct them, or raise"
                " --max_bad_rows"
            )


def _predicted(
    job: Job, task: Assignment, stream: IO[bytes], write: Callable[[Chunk], None]
) -> Iterator[Chunk]:
    """The chunks of a file with their outputs; the other thread writes them with `write`."""
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
    """The next chunks, enough to make handing them over worthwhile; none at the end."""
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
