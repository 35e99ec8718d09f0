"""Writes rows of outputs to an npz file of any size; nothing is in memory as a whole."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self
from zipfile import ZipFile, ZipInfo

import numpy as np

from lambda_serving.batch_job.chunks import Chunk
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument
from lambda_serving.store import temporary

__all__ = ["NpzWriter"]

_CHUNK = 2**20


class NpzWriter:
    """An npz file with an array for each output; chunks are added in the order of their rows.

    A bad row is NaN for floats, otherwise zero or empty. bfloat16, which numpy does not know,
    becomes float32. Strings lose zero bytes at their end, as they do in numpy.
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
        """Raises InvalidArgument for rows with another shape than earlier ones."""
        for part in chunk.parts:
            for name, array in part.arrays.items():
                if name not in self._columns:
                    self._columns[name] = _Spool(name, _plain(array), chunk.first - 1, self._stack)
        for column in self._columns.values():
            column.add(chunk)

    def finish(self) -> None:
        """Writes the file; the same rows give the same bytes."""
        with ZipFile(self._path, "w") as archive:
            for name, column in self._columns.items():
                with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    column.copy_to(member)


class _Spool:
    """The rows of one output, in a temporary file until their number is known."""

    def __init__(self, name: str, like: Array, bad: int, stack: ExitStack) -> None:
        """Rows have the shape and dtype of those in `like`; the first `bad` rows were bad."""
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
                    f" {array.shape[1:]}, which no npz file can hold. Give the rows as JSON lines"
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
    """The array in a dtype that numpy can store."""
    if array.dtype.names:  # quantized
        return array.view(array.dtype[0])
    if array.dtype.isbuiltin == 1:
        return array
    integers = "int" in array.dtype.name
    return array.astype(np.int8 if integers else np.float32)
