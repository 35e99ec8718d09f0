"""Files as the values of a graph's variables: mapped into memory, shared, never copied.

Source: tensorflow/core/kernels/resource_variable_ops.cc: an assignment keeps the buffer it is
given, and tensorflow/c/tf_tensor.cc: a tensor keeps memory that is aligned as Eigen wants it.
"""

import ctypes
import mmap
import os
from collections.abc import Sequence
from ctypes import c_int, c_int64, c_long, c_size_t, c_void_p
from dataclasses import dataclass
from math import prod
from pathlib import Path

from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss, ResourceExhausted
from lambda_serving.tensorflow_c.library import DEALLOCATOR, Output, library, status
from lambda_serving.tensorflow_c.session import Session, operation_of, output_of

__all__ = ["MappedFile", "assign"]


@dataclass(frozen=True, slots=True)
class MappedFile:
    """The elements of a tensor, as they lie in memory, in a file of this name.

    `feed` and `assignment` are a placeholder of the graph and the operation that gives its value
    to a variable.
    """

    path: Path
    dtype: DType
    shape: tuple[int, ...]
    feed: str
    assignment: str


def assign(session: Session, files: Sequence[MappedFile]) -> None:
    """Gives variables their values, in one run of the graph.

    The memory is read-only: a graph that writes these variables would end the process. It is
    unmapped when the variable lets go of it. Raises DataLoss when a file is missing or has
    another size than its tensor, ResourceExhausted when it cannot be mapped.
    """
    if not files:
        return
    lib, count = library(), len(files)
    feeds = (Output * count)(*(output_of(session.graph, file.feed) for file in files))
    targets = (c_void_p * count)(*(operation_of(session.graph, file.assignment) for file in files))
    tensors = (c_void_p * count)()
    try:
        for i, file in enumerate(files):
            tensors[i] = _tensor_of(file)
        with session.running() as pointer, status() as st:
            lib.TF_SessionRun(
                pointer, None, feeds, tensors, count, None, None, 0, targets, count, None, st
            )
    finally:
        for tensor in tensors:
            if tensor:
                lib.TF_DeleteTensor(tensor)


def _tensor_of(file: MappedFile) -> int:
    size = prod(file.shape) * file.dtype.numpy.itemsize
    tensor: int = library().TF_NewTensor(
        file.dtype,
        (c_int64 * len(file.shape))(*file.shape),
        len(file.shape),
        _map(file.path, size),
        size,
        _unmap,
        None,
    )
    return tensor


def _map(path: Path, size: int) -> int:
    """The address of a file's content; its pages are asked for, but not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataLoss(f"Could not read {path}: {error.strerror}") from error
    try:
        if (found := os.fstat(descriptor).st_size) != size:
            raise DataLoss(f"{path} has {found} bytes, its tensor {size}: copy it again")
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        address: int = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    finally:
        os.close(descriptor)
    if address == _MAP_FAILED:
        reason = os.strerror(ctypes.get_errno())
        raise ResourceExhausted(f"Could not map {path} into memory: {reason}")
    return address


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = c_void_p
_libc.mmap.argtypes = (c_void_p, c_size_t, c_int, c_int, c_int, c_long)
_MAP_FAILED = c_void_p(-1).value
_unmap = ctypes.cast(_libc.munmap, DEALLOCATOR)
"""`munmap(address, size)` as it is: the third argument of a deallocator is one too many."""
