"""Files of rows, as chunks of what a signature takes.

    jsonl      one of predict's `instances` a line (`codec`)
    tfrecord   a serialized `tf.Example` a record, for signatures of one input of strings
    npz        an array for each input, rows along the first dimension (numpy's `savez`)

A file is read as far as it is needed and no further, whatever its size.
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
"""Bytes of a row: what is longer is no row, and would not fit memory together with others."""
_AT_ONCE = 4 * 2**20
"""Bytes of lines that are decoded together: with more, what that saves is nothing beside them."""


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
    """The format that a file's extension stands for. Raises InvalidArgument for others."""
    try:
        return _EXTENSIONS[name.rpartition(".")[2].lower()]
    except KeyError:
        raise InvalidArgument(
            f"The format of {name} is not told by its name. Give it: --format jsonl, tfrecord or"
            " npz"
        ) from None


def chunks(
    file: IO[bytes], row_format: RowFormat, signature: Signature, size: int
) -> Iterator[Chunk]:
    """The rows of a file, `size` at a time, bad ones told.

    Raises DataLoss or InvalidArgument where no row can be read from there on, naming neither
    the file, and what reading raises.
    """
    try:
        match row_format:
            case RowFormat.JSONL:
                yield from _json_lines(file, signature, size)
            case RowFormat.TFRECORD:
                yield from _examples(file, signature, size)
            case RowFormat.NPZ:
                from lambda_serving.batch_job.npz import arrays

                yield from arrays(file, signature, size)
    except OSError as error:  # of a disk or a network drive, in the midst of it
        raise DataLoss(f"Could not read on: {error.strerror or error}") from error


def _json_lines(file: IO[bytes], signature: Signature, size: int) -> Iterator[Chunk]:
    for first, lines in _batched(_lines(file), size):
        parts, errors = _values(lines, signature)
        yield Chunk(first, len(lines), parts, errors, lines)


def _values(lines: Sequence[bytes], signature: Signature) -> tuple[list[Part], dict[int, str]]:
    """The lines' values, and what is wrong with the others, by their places."""
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
    """So many rows at a time, with the number of the first of them, from 1 on."""
    first, left = 1, iter(rows)
    while batch := list(islice(left, size)):
        yield first, batch
        first += len(batch)
