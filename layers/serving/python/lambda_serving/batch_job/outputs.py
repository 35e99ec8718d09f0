"""What a job makes of an input file NAME, in the place of outputs.

NAME.jsonl          from JSON lines and TFRecord: a line for each row, with its prediction as in
                    `predictions` (`codec`), or `{"error": text}` for a bad row
NAME.npz            from npz: an array for each output, rows along the first dimension
NAME.errors.jsonl   `{"row": number, "error": text, "text": the row, shortened}` for each bad row,
                    numbered from 1; only if there is one
NAME.done.json      the `Receipt`, written last
"""

from pathlib import Path
from typing import IO, Protocol, Self

import orjson

from lambda_serving.api import codec
from lambda_serving.batch_job.chunks import Chunk
from lambda_serving.batch_job.npz_writer import NpzWriter
from lambda_serving.batch_job.readers import RowFormat

__all__ = ["Writer", "open_writer", "report_errors"]

_SHOWN = 1000


class Writer(Protocol):
    """An output file while it is written."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, chunk: Chunk) -> None:
        """Raises InvalidArgument for outputs that the format cannot hold."""

    def finish(self) -> None:
        """Completes the file, once all rows have been added."""


def open_writer(path: Path, row_format: RowFormat) -> Writer:
    return NpzWriter(path) if row_format is RowFormat.NPZ else _Lines(path)


class _Lines:
    """A file with a line for each row."""

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


def report_errors(chunk: Chunk, file: IO[bytes]) -> None:
    """Writes a line for each bad row."""
    for place, error in sorted(chunk.errors.items()):
        line = {"row": chunk.first + place, "error": error}
        if chunk.texts:
            line["text"] = chunk.texts[place][:_SHOWN].decode("utf-8", "backslashreplace")
        file.write(orjson.dumps(line) + b"\n")
