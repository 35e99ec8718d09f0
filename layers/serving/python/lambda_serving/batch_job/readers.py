"""Reads files of rows as chunks of a signature's inputs.

    jsonl      one of predict's `instances` in each line (`codec`)
    tfrecord   a serialized `tf.Example` in each record, for signatures with one input of strings
    npz        an array for each input, rows along the first dimension (numpy's `savez`)

A file of any size is read only as far as needed.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import IO

import numpy as np

from lambda_serving.api import codec
from lambda_serving.batch_job.chunks import Chunk, Part, joined
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DataLoss, InvalidArgument, ServingError
from lambda_serving.protos import tfrecord
from lambda_serving.servables.servable import Signature

__all__ = ["RowFormat", "chunks", "format_of"]

_MOST = 2**28
"""Bytes of a row: anything longer is not a row, and would not fit in memory with others."""
_AT_ONCE = 4 * 2**20
"""Bytes of lines that are decoded together; more of them would save nothing."""


class RowFormat(StrEnum):
    """How a file holds its rows."""

    JSONL = "jsonl"
    TFRECORD = "tfrecord"
    NPZ = "npz"


_EXTENSIONS = {
    "jsonl": RowFormat.JSONL,
    "ndjson": RowFormat.JSONL,
    "tfrecord": RowFormat.TFRECORD,
    "tfrecords": RowFormat.TFRECORD,
    "npz": RowFormat.NPZ,
}


def format_of(name: str) -> RowFormat:
    """The format of a file by its extension; raises InvalidArgument for an unknown one."""
    try:
        return _EXTENSIONS[name.rpartition(".")[2].lower()]
    except KeyError:
        raise InvalidArgument(
            f"The name of {name} does not tell its format. Give it: --format jsonl, tfrecord or npz"
        ) from None


def chunks(
    file: IO[bytes], row_format: RowFormat, signature: Signature, size: int
) -> Iterator[Chunk]:
    """The rows of a file, `size` at a time, with the errors of bad ones.

    Raises DataLoss or InvalidArgument, without the file's name, where the rest is unreadable.
    """
    try:
        match row_format:
            case RowFormat.JSONL:
                yield from _json_lines(file, signature, size)
            case RowFormat.TFRECORD:
                yield from _examples(file, signature, size)
            case RowFormat.NPZ:
                from lambda_serving.batch_job.npz_reader import arrays

                yield from arrays(file, signature, size)
    except OSError as error:  # a disk or network drive failed in the middle of the file
        raise DataLoss(f"Could not read on: {error.strerror or error}") from error


def _json_lines(file: IO[bytes], signature: Signature, size: int) -> Iterator[Chunk]:
    for first, lines in _batched(_lines(file), size):
        parts, errors = _values(lines, signature)
        yield Chunk(first, len(lines), parts, errors, lines)


def _values(lines: Sequence[bytes], signature: Signature) -> tuple[list[Part], dict[int, str]]:
    """The values of good lines, and the errors of the others by place."""
    if sum(map(len, lines)) <= _AT_ONCE and (arrays := codec.decode_rows(lines, signature)):
        return [Part(range(len(lines)), arrays)], {}
    rows: dict[int, dict[str, Array]] = {}
    errors: dict[int, str] = {}
    for place, line in enumerate(lines):
        try:
            rows[place] = codec.decode_row(line, signature)
        except ServingError as error:
            errors[place] = str(error)
    return joined(rows), errors


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(_MOST + 1):
        if len(line) > _MOST:
            raise DataLoss(f"A line has more than {_MOST} bytes. Is the file JSON lines?")
        yield line.rstrip(b"\r\n")


def _examples(file: IO[bytes], signature: Signature, size: int) -> Iterator[Chunk]:
    inputs = {name: spec.dtype for name, spec in signature.inputs.items()}
    if list(inputs.values()) != [DType.STRING]:
        takes = ", ".join(f"{name} ({dtype.label})" for name, dtype in inputs.items())
        raise InvalidArgument(
            "TFRecord files are for signatures whose one input takes serialized tf.Examples, and"
            f" {signature.name} takes {takes}. Choose another with --signature_name"
        )
    for first, records in _batched(tfrecord.records(file, _MOST), size):
        strings: Array = np.empty(len(records), object)
        strings[:] = records
        part = Part(range(len(records)), dict.fromkeys(inputs, strings))
        yield Chunk(first, len(records), [part], {}, records)


def _batched(rows: Iterable[bytes], size: int) -> Iterator[tuple[int, list[bytes]]]:
    """Lists of `size` rows, each with the number of its first row, from 1."""
    first, left = 1, iter(rows)
    while batch := list(islice(left, size)):
        yield first, batch
        first += len(batch)
