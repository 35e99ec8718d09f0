"""Files as the values of a graph's variables, in memory that TensorFlow uses as it is.

A file that somebody may write is read into memory of our own, and its content checked: with a
mapping of it, `truncate` would end the process by SIGBUS, and `cp` would change its answers.

Source: tensorflow/core/kernels/resource_variable_ops.cc: an assignment keeps the buffer it is
given, and tensorflow/c/tf_tensor.cc: a tensor keeps memory that is aligned as Eigen wants it.
"""

import ctypes
import hashlib
import mmap
import os
from collections.abc import Sequence
from ctypes import c_char, c_int, c_int64, c_long, c_size_t, c_void_p
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path

from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss, ResourceExhausted
from lambda_serving.tensorflow_c.library import DEALLOCATOR, Output, library, status
from lambda_serving.tensorflow_c.session import Session, operation_of, output_of

__all__ = ["MappedFile", "assign", "file_name"]

_DIGEST_CHARACTERS = 32
_HUGE_PAGE = 2 * 2**20
_NO_ADVICE = 0


@dataclass(frozen=True, slots=True)
class MappedFile:
    """The elements of a tensor, as they lie in memory, in a file named by `file_name`.

    `feed` and `assignment` are a placeholder of the graph and the operation that gives its value
    to a variable.
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


def file_name(dtype: DType, shape: tuple[int, ...], content: bytes | memoryview) -> str:
    """What the file of a tensor is called, by its content."""
    identity = hashlib.sha256(repr((dtype.name, shape)).encode())
    identity.update(content)
    return identity.hexdigest()[:_DIGEST_CHARACTERS]


def assign(session: Session, files: Sequence[MappedFile], *, mapped: bool = False) -> None:
    """Gives variables their values, in one run of the graph.

    Their memory is given back when the variables let go of it. Files are read, and their content
    is checked; `mapped` maps them, read-only, which takes no time but is only for files that nobody
    writes. Raises DataLoss when a file is missing, has another size than its tensor, or, read,
    another content than its name says; ResourceExhausted when there is no memory.
    """
    if not files:
        return
    lib, count = library(), len(files)
    feeds = (Output * count)(*(output_of(session.graph, file.feed) for file in files))
    targets = (c_void_p * count)(*(operation_of(session.graph, file.assignment) for file in files))
    tensors = (c_void_p * count)()
    try:
        for i, file in enumerate(files):
            tensors[i] = _tensor_of(file, mapped=mapped)
        with session.running() as pointer, status() as st:
            lib.TF_SessionRun(
                pointer, None, feeds, tensors, count, None, None, 0, targets, count, None, st
            )
    finally:
        for tensor in tensors:
            if tensor:
                lib.TF_DeleteTensor(tensor)


def _tensor_of(file: MappedFile, *, mapped: bool) -> int:
    tensor: int = library().TF_NewTensor(
        file.dtype,
        (c_int64 * len(file.shape))(*file.shape),
        len(file.shape),
        _address_of(file, mapped=mapped),
        file.size,
        _unmap,
        None,
    )
    return tensor


def _address_of(file: MappedFile, *, mapped: bool) -> int | None:
    """Where the content of a file lies in memory; nowhere, if it has none."""
    try:
        with FileIO(file.path) as opened:
            if (found := os.fstat(opened.fileno()).st_size) != file.size:
                raise DataLoss(
                    f"{file.path} has {found} bytes, its tensor {file.size}: copy it again"
                )
            if not file.size:
                return None
            if mapped:
                return _map(file, opened)
            return _copy(file, opened)
    except OSError as error:
        raise DataLoss(f"Could not read {file.path}: {error.strerror}") from error


def _map(file: MappedFile, opened: FileIO) -> int:
    """Its pages are asked for, but not waited for."""
    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    return _memory(file, mmap.PROT_READ, mmap.MAP_SHARED, opened.fileno())


def _copy(file: MappedFile, opened: FileIO) -> int:
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    address = _memory(file, writable, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
    try:
        if file.size >= _HUGE_PAGE:
            _libc.madvise(address, file.size, _HUGE_PAGES)
        _read(file, opened, memoryview((c_char * file.size).from_address(address)))
    except BaseException:
        _libc.munmap(address, file.size)
        raise
    return address


def _read(file: MappedFile, opened: FileIO, into: memoryview) -> None:
    at = 0
    while count := opened.readinto(into[at:]):
        at += count
    if at < file.size or file_name(file.dtype, file.shape, into) != file.path.name:
        raise DataLoss(
            f"{file.path} has another content than its name says, so it was changed after it was"
            " compiled: copy it again"
        )


def _memory(file: MappedFile, protection: int, flags: int, descriptor: int) -> int:
    address: int = _libc.mmap(None, file.size, protection, flags, descriptor, 0)
    if address == _MAP_FAILED:
        reason = os.strerror(ctypes.get_errno())
        raise ResourceExhausted(f"No memory for the {file.size} bytes of {file.path}: {reason}")
    return address


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = c_void_p
_libc.mmap.argtypes = (c_void_p, c_size_t, c_int, c_int, c_int, c_long)
_libc.munmap.argtypes = (c_void_p, c_size_t)
_libc.madvise.argtypes = (c_void_p, c_size_t, c_int)
_MAP_FAILED = c_void_p(-1).value
_HUGE_PAGES = getattr(
    mmap, "MADV_HUGEPAGE", _NO_ADVICE
)  # Linux has it; filling then takes about two thirds of the time
_unmap = ctypes.cast(_libc.munmap, DEALLOCATOR)
"""`munmap(address, size)` as it is: the third argument of a deallocator is one too many."""
