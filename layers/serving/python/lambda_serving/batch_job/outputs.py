"""What a job makes of a file NAME, beside one another in the place of outputs.

NAME.jsonl          of JSON lines and TFRecord: for each row a line, its prediction as one of
                    `predictions` (`codec`), or `{"error": text}` for a bad row
NAME.npz            of npz: an array for each output, rows along the first dimension
NAME.errors.jsonl   `{"row": number, "error": text, "text": what stands there, cut}` for each
                    bad row, numbers from 1 on; only if there is one
NAME.done.json      written last: what was done, and of what
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol, Self

import orjson

from lambda_serving.api import codec
from lambda_serving.batch_job.chunks import Chunk
from lambda_serving.batch_job.npz import Columns
from lambda_serving.batch_job.readers import RowFormat
from lambda_serving.store.manifest import File
from lambda_serving.store.patterns import Input

__all__ = [
    "Record",
    "Task",
    "Writer",
    "digest",
    "errors_name",
    "open_writer",
    "record_name",
    "report",
]

_SHOWN = 1000


def digest(folder: Path) -> str:
    """Tells SavedModels apart: sha256, in hex, of the names and contents of all files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = "".join(f"{File.of(path).sha256} {path.relative_to(folder)}\n" for path in paths)
    return sha256(named.encode(errors="surrogateescape")).hexdigest()


def errors_name(name: str) -> str:
    return f"{name}.errors.jsonl"


def record_name(name: str) -> str:
    return f"{name}.done.json"


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done of a file: equal ones give equal outputs.

    `model` is the digest of the SavedModel.
    """

    input: Input
    model: str
    signature_name: str
    row_format: RowFormat

    @property
    def output(self) -> str:
        """The name of the file of predictions."""
        extension = "npz" if self.row_format is RowFormat.NPZ else "jsonl"
        return f"{self.input.name}.{extension}"


@dataclass(frozen=True, slots=True)
class Record:
    """That a file was done, and what came of it; `size` is that of the output, in bytes."""

    task: Task
    rows: int
    bad_rows: int
    size: int

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def of_json(cls, data: bytes) -> Self | None:
        """None for what is no record, as one of an earlier kind: then the file is done again."""
        try:
            document = json.loads(data)
            task = document.pop("task")
            file, row_format = Input(**task.pop("input")), RowFormat(task.pop("row_format"))
            return cls(Task(file, row_format=row_format, **task), **document)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class Writer(Protocol):
    """An output being made."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, chunk: Chunk) -> None:
        """Raises InvalidArgument for outputs that the format cannot hold."""

    def finish(self) -> None:
        """All rows were added."""


def open_writer(path: Path, row_format: RowFormat) -> Writer:
    return Columns(path) if row_format is RowFormat.NPZ else _Lines(path)


class _Lines:
    """A file of a line for each row."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, chunk: Chunk) -> None:
        lines = {place: orjson.dumps({"error": text}) for place, text in chunk.errors.items()}
        for part in chunk.parts:
            lines.update(zip(part.places, codec.encode_rows(part.arrays), strict=True))
        self._file.writelines(lines[place] + b"\n" for place in range(chunk.size))

    def finish(self) -> None:
        self._file.close()


def report(chunk: Chunk, file: IO[bytes]) -> None:
    """Writes a line for each bad row."""
    for place, error in sorted(chunk.errors.items()):
        line = {"row": chunk.first + place, "error": error}
        if chunk.texts:
            line["text"] = chunk.texts[place][:_SHOWN].decode("utf-8", "backslashreplace")
        file.write(orjson.dumps(line) + b"\n")
