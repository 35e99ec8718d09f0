"""Reads npz files of any size in chunks; none is in memory as a whole."""

import errno
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import IO, Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from lambda_serving.batch_job.chunks import Chunk, Part
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DataLoss, InvalidArgument, ServingError
from lambda_serving.servables.servable import Signature
from lambda_serving.store import temporary

__all__ = ["arrays"]

_FLOATS = {DType.HALF, DType.BFLOAT16, DType.FLOAT, DType.DOUBLE}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_CHUNK = 2**20
_LARGEST_ROW = 2**28  # bytes, as in the other formats
_MOST_EMPTY_ROWS = 2**20
_OF_DECODERS = frozenset((None, errno.EINVAL))  # errno of bz2's errors, and of an invalid offset


def arrays(
    file: IO[bytes], signature: Signature, size: int, most: int = _LARGEST_ROW
) -> Iterator[Chunk]:
    """The rows of an npz file that has an array for each input of the signature.

    A chunk has `size` rows, or fewer if these exceed `most` bytes together: a small file may unpack
    to large rows. Raises InvalidArgument for arrays that the signature cannot take, DataLoss for an
    invalid npz file or a wrong checksum, and OSError if the file cannot be read.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(ZipFile(_seekable(file, stack)))
            columns = {}
            for name, spec in signature.inputs.items():
                member = _member(archive, name)
                stream = stack.enter_context(archive.open(member))
                columns[name] = _Column(stream, name, spec.dtype, member.file_size)
            row_bytes = sum(column.row_bytes for column in columns.values())
            yield from _chunks(columns, max(1, min(size, most // max(1, row_bytes))))
            for column in columns.values():
                column.finish()
        except ServingError:
            raise
        except OSError as error:
            if error.errno not in _OF_DECODERS:
                raise
            raise _no_npz(error) from error
        except Exception as error:  # zipfile, its decompressors and numpy's parser raise many kinds
            raise _no_npz(error) from error


def _no_npz(error: Exception) -> DataLoss:
    return DataLoss(f"This is not an npz file: {error or type(error).__name__}")


def _seekable(file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """Copies a stream from a bucket to disk: the table of a zip file is at its end."""
    if file.seekable():
        return file
    copy = stack.enter_context(temporary.file())
    shutil.copyfileobj(file, copy, _CHUNK)
    return copy


def _member(archive: ZipFile, name: str) -> ZipInfo:
    try:
        return archive.getinfo(f"{name}.npy")
    except KeyError:
        there = ", ".join(each.removesuffix(".npy") for each in archive.namelist()) or "nothing"
        raise InvalidArgument(
            f"There is no array for the input {name}. The file has: {there}. Name its arrays as in"
            " the signature"
        ) from None


class _Column:
    """The array of one input, read from front to back."""

    def __init__(self, stream: IO[bytes], name: str, dtype: DType, size: int) -> None:
        """`size` is the stream's size by the archive, in bytes, including the header."""
        self._stream, self._dtype = stream, dtype
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise InvalidArgument(f"The array {name} has an unknown format of numpy's")
        shape, fortran, self._stored = _HEADERS[version](stream)
        if any(size < 0 for size in shape):
            raise DataLoss(f"The array {name} has the shape {list(shape)}")
        if not shape:
            raise InvalidArgument(f"The array {name} has no dimension of rows")
        _check_dtype(name, self._stored, dtype)
        if fortran and len(shape) > 1:
            raise InvalidArgument(
                f"The array {name} is in Fortran's order. Save numpy.ascontiguousarray(array)"
            )
        self.rows, self._shape = shape[0], shape[1:]
        self.row_bytes = math.prod(self._shape) * self._stored.itemsize
        self._check_size(name, size - stream.tell())

    def _check_size(self, name: str, size: int) -> None:
        """Raises DataLoss if the array does not have `size` bytes, or rows are too large."""
        claimed = self.rows * self.row_bytes
        if claimed != size:
            raise DataLoss(
                f"The array {name} has {self.rows} rows of {self.row_bytes} bytes by its header,"
                f" and {size} bytes in the file"
            )
        if self.row_bytes > _LARGEST_ROW:
            raise DataLoss(
                f"A row of the array {name} has {self.row_bytes} bytes; at most {_LARGEST_ROW} are"
                " possible"
            )
        if not self.row_bytes and self.rows > _MOST_EMPTY_ROWS:
            raise DataLoss(f"The array {name} has {self.rows} rows without values")

    def finish(self) -> None:
        """Raises BadZipFile if the checksum, which is at the end, does not match."""
        self._stream.read(1)

    def read(self, count: int) -> Array:
        """The next rows, in the dtype that the signature takes."""
        size = count * self.row_bytes
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError("an array is cut short")
        array: Array = np.ndarray((count, *self._shape), self._stored, data)
        if self._stored.kind == "U":
            array = np.char.encode(array, "utf-8")
        with np.errstate(over="ignore"):
            return array.astype(self._dtype.numpy, copy=False)


def _check_dtype(name: str, stored: np.dtype[Any], wanted: DType) -> None:
    """Floats may become other floats; otherwise no value may change."""
    if stored.kind in "SU" or wanted is DType.STRING:
        fits = stored.kind in "SU" and wanted is DType.STRING
    elif stored.kind == "f" and wanted in _FLOATS:
        fits = True
    else:
        values = wanted.numpy[0] if wanted.numpy.names else wanted.numpy  # quantized
        fits = stored.kind in "biufc" and np.can_cast(stored, values, "safe")
    if not fits:
        raise InvalidArgument(
            f"The array {name} holds {stored}, and the signature takes {wanted.label}. Save it with"
            " that dtype"
        )


def _chunks(columns: Mapping[str, _Column], size: int) -> Iterator[Chunk]:
    """Chunks of `size` rows; each read brings a block of several chunks."""
    rows = _rows(columns)
    chunk_bytes = size * sum(column.row_bytes for column in columns.values())
    block = size * max(1, _CHUNK // max(1, chunk_bytes))
    for start in range(0, rows, block):
        count = min(block, rows - start)
        arrays = {name: column.read(count) for name, column in columns.items()}
        for first in range(0, count, size):
            inputs = {name: array[first : first + size] for name, array in arrays.items()}
            places = range(min(size, count - first))
            yield Chunk(start + first + 1, len(places), [Part(places, inputs)], {})


def _rows(columns: Mapping[str, _Column]) -> int:
    counts = {name: column.rows for name, column in columns.items()}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
        raise InvalidArgument(f"The arrays must have the same number of rows, and have: {told}")
    return next(iter(counts.values()))
