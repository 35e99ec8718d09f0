"""npz files of rows, read and written bit by bit: none is in memory as a whole."""

import errno
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self
from zipfile import ZipFile, ZipInfo

import numpy as np

from lambda_serving.batch_job.chunks import Chunk, Part
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DataLoss, InvalidArgument, ServingError
from lambda_serving.servables.servable import Signature
from lambda_serving.store import temporary

__all__ = ["Columns", "arrays"]

_FLOATS = {DType.HALF, DType.BFLOAT16, DType.FLOAT, DType.DOUBLE}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_CHUNK = 2**20
_LARGEST_ROW = 2**28  # bytes, as in files of other formats
_MOST_EMPTY_ROWS = 2**20
_OF_DECODERS = frozenset((None, errno.EINVAL))  # bz2's have no number, an offset that is none has


def arrays(
    file: IO[bytes], signature: Signature, size: int, most: int = _LARGEST_ROW
) -> Iterator[Chunk]:
    """The rows of an npz file, which holds an array for each input of the signature.

    A chunk has `size` rows, or fewer where these have more than `most` bytes together: a small
    file may unpack to large ones.

    Raises InvalidArgument for arrays that the signature cannot take, DataLoss for what is no npz
    or has other bytes than its checksums are of, OSError when the file cannot be read.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(ZipFile(_seekable(file, stack)))
            columns = {
                name: _column(archive, stack, name, spec.dtype)
                for name, spec in signature.inputs.items()
            }
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
        except Exception as error:  # what zipfile, its decompressors and numpy's parser may raise
            raise _no_npz(error) from error


def _no_npz(error: Exception) -> DataLoss:
    return DataLoss(f"This is no npz file: {error or type(error).__name__}")


def _seekable(file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """The table of a zip file stands at its end: what comes from a bucket is copied first."""
    if file.seekable():
        return file
    copy = stack.enter_context(temporary.file())
    shutil.copyfileobj(file, copy, _CHUNK)
    return copy


def _column(archive: ZipFile, stack: ExitStack, name: str, dtype: DType) -> "_Column":
    member = _member(archive, name)
    stream = stack.enter_context(archive.open(member))
    return _Column(stream, name, dtype, member.file_size)


def _member(archive: ZipFile, name: str) -> ZipInfo:
    try:
        return archive.getinfo(f"{name}.npy")
    except KeyError:
        there = ", ".join(each.removesuffix(".npy") for each in archive.namelist()) or "nothing"
        raise InvalidArgument(
            f"There is no array for the input {name}. There is: {there}. Name them as the"
            " signature does"
        ) from None


class _Column:
    """The array of an input, read from the front."""

    def __init__(self, stream: IO[bytes], name: str, dtype: DType, size: int) -> None:
        """`size` is that of the stream, its header included, as the archive has it."""
        self._stream, self._dtype = stream, dtype
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise InvalidArgument(f"The array {name} is of a format that is not known here")
        shape, fortran, self._stored = _HEADERS[version](stream)
        if any(size < 0 for size in shape):
            raise DataLoss(f"The array {name} has the shape {shape}")
        if not shape:
            raise InvalidArgument(f"The array {name} has no dimension of rows")
        _check_dtype(name, self._stored, dtype)
        if fortran and len(shape) > 1:
            raise InvalidArgument(
                f"The array {name} is in Fortran's order. Save numpy.ascontiguousarray of it"
            )
        self.rows, self._shape = shape[0], shape[1:]
        self.row_bytes = math.prod(self._shape) * self._stored.itemsize
        self._check_size(name, size - stream.tell())

    def _check_size(self, name: str, size: int) -> None:
        """Raises DataLoss when the array is not of `size` bytes, and for rows without end."""
        claimed = self.rows * self.row_bytes
        if claimed != size:
            raise DataLoss(
                f"The array {name} has {self.rows} rows of {self.row_bytes} bytes by its header,"
                f" and {size} bytes in the file"
            )
        if self.row_bytes > _LARGEST_ROW:
            raise DataLoss(
                f"A row of the array {name} has {self.row_bytes} bytes, and there can be at most"
                f" {_LARGEST_ROW}"
            )
        if not self.row_bytes and self.rows > _MOST_EMPTY_ROWS:
            raise DataLoss(f"The array {name} has {self.rows} rows of nothing")

    def finish(self) -> None:
        """Raises BadZipFile when the checksum, which stands at the end, is of other bytes."""
        self._stream.read(1)

    def read(self, count: int) -> Array:
        """The next rows, of the dtype that the signature takes."""
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
    """Floats may become other floats; else no value may change."""
    if stored.kind in "SU" or wanted is DType.STRING:
        fits = stored.kind in "SU" and wanted is DType.STRING
    elif stored.kind == "f" and wanted in _FLOATS:
        fits = True
    else:
        values = wanted.numpy[0] if wanted.numpy.names else wanted.numpy  # quantized
        fits = stored.kind in "biufc" and np.can_cast(stored, values, "safe")
    if not fits:
        raise InvalidArgument(
            f"The array {name} holds {stored}, and the signature takes {wanted.label}. Save it as"
            " that"
        )


def _chunks(columns: Mapping[str, _Column], size: int) -> Iterator[Chunk]:
    """Rows `size` at a time, read in blocks of so many chunks as are worth a read."""
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


class Columns:
    """An npz file of outputs by name, made of chunks in the order of their rows.

    A bad row is NaN in floats, else zero or empty. bfloat16, which numpy does not know, becomes
    float32; strings lose zero bytes at their ends, as numpy's do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: dict[str, _Spool] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, chunk: Chunk) -> None:
        """Raises InvalidArgument when rows have another shape than those before."""
        for part in chunk.parts:
            for name, array in part.arrays.items():
                if name not in self._columns:
                    self._columns[name] = _Spool(name, _plain(array), chunk.first - 1, self._stack)
        for column in self._columns.values():
            column.add(chunk)

    def finish(self) -> None:
        """Writes the file. The same rows give the same bytes."""
        with ZipFile(self._path, "w") as archive:
            for name, column in self._columns.items():
                with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    column.copy_to(member)


class _Spool:
    """The rows of an output, in a file until it is known how many there are."""

    def __init__(self, name: str, like: Array, bad: int, stack: ExitStack) -> None:
        """Rows are as those of `like`; the first `bad` ones were all bad."""
        self._name, self._shape, self._dtype = name, like.shape[1:], like.dtype
        self._holds_strings = like.dtype.kind == "O"
        self._rows, self._lengths = 0, list[int]()
        self._file = stack.enter_context(temporary.file())
        for _ in range(bad):
            self._write(self._blank(1))

    def add(self, chunk: Chunk) -> None:
        rows = self._blank(chunk.size)
        for part in chunk.parts:
            array = _plain(part.arrays[self._name])
            if array.shape[1:] != self._shape:
                raise InvalidArgument(
                    f"Rows of the output {self._name} have the shapes {self._shape} and"
                    f" {array.shape[1:]}, which no npz file holds. Give the rows as JSON lines"
                )
            rows[list(part.places)] = array
        self._write(rows)

    def copy_to(self, member: IO[bytes]) -> None:
        longest = max(self._lengths, default=0) or 1
        dtype = np.dtype(f"S{longest}") if self._holds_strings else self._dtype
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._shape),
        }
        np.lib.format.write_array_header_2_0(member, header)
        self._file.seek(0)
        if self._holds_strings:
            for length in self._lengths:
                member.write(self._file.read(length).ljust(longest, b"\0"))
        else:
            shutil.copyfileobj(self._file, member, _CHUNK)

    def _blank(self, rows: int) -> Array:
        value = b"" if self._holds_strings else np.nan if self._dtype.kind in "fc" else 0
        return np.full((rows, *self._shape), value, self._dtype)

    def _write(self, rows: Array) -> None:
        self._rows += len(rows)
        if self._holds_strings:
            self._lengths += map(len, rows.flat)
            self._file.write(b"".join(rows.flat))
        else:
            self._file.write(rows.tobytes())


def _plain(array: Array) -> Array:
    """The array, of a dtype that numpy's files have."""
    if array.dtype.names:  # quantized
        return array.view(array.dtype[0])
    if array.dtype.isbuiltin == 1:
        return array
    integers = "int" in array.dtype.name
    return array.astype(np.int8 if integers else np.float32)
