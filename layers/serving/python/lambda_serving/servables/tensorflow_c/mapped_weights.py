"""Uses files as the values of a graph's variables, in memory that TensorFlow does not copy.

Source: tensorflow/core/kernels/resource_variable_ops.cc: an assignment keeps the buffer it is
given.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_int64, c_void_p
from dataclasses import dataclass, field
from io import FileIO
from math import prod
from pathlib import Path

from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss
from lambda_serving.servables.tensorflow_c import memory
from lambda_serving.servables.tensorflow_c.library import library
from lambda_serving.servables.tensorflow_c.operations import operation_of, output_of
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.session_run import ends_of, run

__all__ = ["MappedFile", "Values", "assign", "map_files", "opened"]


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file, named by `reading.file_name`, with the elements of a tensor as they lie in memory.

    `feed` is a placeholder of the graph, `assignment` the operation that assigns its value to a
    variable.
    """

    path: Path
    dtype: DType
    shape: tuple[int, ...]
    feed: str
    assignment: str

    @property
    def size(self) -> int:
        """In bytes."""
        return prod(self.shape) * self.dtype.numpy.itemsize


@dataclass(slots=True)
class Values:
    """The contents of files, each in its own pages, by address.

    `free` releases those that no tensor has taken over, and calls `end`.
    """

    addresses: dict[MappedFile, int] = field(default_factory=dict)
    end: Callable[[], object] | None = None

    def free(self) -> None:
        while self.addresses:
            file, address = self.addresses.popitem()
            memory.unmap(address, file.size)
        end, self.end = self.end, None
        if end:
            end()


def map_files(files: Sequence[MappedFile]) -> Values:
    """Maps files read-only; their pages are requested, but not waited for.

    Nobody may write the files: truncating one would end the process with SIGBUS, and overwriting
    one would change answers. Raises DataLoss for a file that is missing or has another size than
    its tensor, and ResourceExhausted.
    """
    values = Values()
    try:
        for file in files:
            values.addresses[file] = _mapped(file)
    except BaseException:
        values.free()
        raise
    return values


def assign(session: Session, files: Sequence[MappedFile], values: Values) -> None:
    """Assigns variables their values, in one run of the graph.

    The variables then own the memory, and `values.end` is called when the session ends. Values
    that no variable needs are released at once, and all of them after an error. Raises DataLoss for
    a file whose content is not among the values.
    """
    try:
        if files:
            _assign(session, files, values)
        if values.end:
            session.at_end(values.end)
            values.end = None
    finally:
        values.free()


def _assign(session: Session, files: Sequence[MappedFile], values: Values) -> None:
    feeds = ends_of([output_of(session.graph, file.feed) for file in files])
    operations = [operation_of(session.graph, file.assignment) for file in files]
    tensors = [0] * len(files)
    try:
        for i, file in enumerate(files):
            tensors[i] = _tensor_of(file, values)
        with session.running() as pointer:
            run(pointer, feeds, tensors, targets=(c_void_p * len(files))(*operations))
    finally:
        for tensor in tensors:
            if tensor:
                library().TF_DeleteTensor(tensor)


@contextmanager
def opened(file: MappedFile) -> Iterator[FileIO]:
    """The file; raises DataLoss when it cannot be read or has another size than its tensor."""
    try:
        # does not block even if the file is a pipe
        with FileIO(
            file.path, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)
        ) as content:
            if (found := os.fstat(content.fileno()).st_size) != file.size:
                raise DataLoss(
                    f"{file.path} has {found} bytes, its tensor {file.size}: copy it again"
                )
            yield content
    except OSError as error:
        raise DataLoss(f"Could not read {file.path}: {error.strerror}") from error


def _mapped(file: MappedFile) -> int:
    with opened(file) as content:
        if not file.size:
            return 0
        if sys.platform != "darwin":
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        return memory.map_file(content.fileno(), file.size)


def _tensor_of(file: MappedFile, values: Values) -> int:
    if file not in values.addresses:
        raise DataLoss(f"The graph was changed while {file.path} was read: load it again")
    tensor: int = library().TF_NewTensor(
        file.dtype,
        (c_int64 * len(file.shape))(*file.shape),
        len(file.shape),
        values.addresses.pop(file),
        file.size,
        memory.UNMAP,
        None,
    )
    return tensor
