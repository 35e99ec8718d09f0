"""Memory that TensorFlow's tensors use without a copy, in ranges that each tensor frees by itself.

Source: tensorflow/c/tf_tensor.cc: a tensor keeps memory with Eigen's alignment, which pages have.
"""

import ctypes
import mmap
import os
from ctypes import c_char, c_int, c_long, c_size_t, c_void_p

from lambda_serving.errors import ResourceExhausted
from lambda_serving.servables.tensorflow_c.prototypes import DEALLOCATOR

__all__ = ["UNMAP", "map_file", "pages", "private", "trim", "unmap", "view"]

_HUGE_PAGE = 2 * 2**20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = c_void_p
_libc.mmap.argtypes = (c_void_p, c_size_t, c_int, c_int, c_int, c_long)
_libc.munmap.argtypes = (c_void_p, c_size_t)
_libc.madvise.argtypes = (c_void_p, c_size_t, c_int)
_FAILED = c_void_p(-1).value
UNMAP = ctypes.cast(_libc.munmap, DEALLOCATOR)
"""`munmap(address, size)` as a deallocator; it ignores the third argument. It unmaps whole pages,
so part of a mapping can be unmapped from a page's start to a page's end."""


def pages(size: int) -> int:
    """The bytes of the pages that hold `size` bytes."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def private(size: int) -> int:
    """The address of `size` zeroed bytes private to this process; raises ResourceExhausted."""
    address = _map(size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):  # it fills in a third of the time
        _libc.madvise(address, size, mmap.MADV_HUGEPAGE)
    return address


def map_file(descriptor: int, size: int, *, writable: bool = False) -> int:
    """The address of a file's first bytes, shared by all that map it; raises as `private`."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return _map(size, protection, mmap.MAP_SHARED, descriptor)


def view(address: int, size: int) -> memoryview:
    return memoryview((c_char * size).from_address(address))


def unmap(address: int, size: int) -> None:
    _libc.munmap(address, size)


def trim() -> None:
    """Returns freed memory to the system; glibc would keep some, 300 MB after a ResNet-50."""
    if hasattr(_libc, "malloc_trim"):  # only glibc has it
        _libc.malloc_trim(0)


def _map(size: int, protection: int, flags: int, descriptor: int = -1) -> int:
    address: int = _libc.mmap(None, size, protection, flags, descriptor, 0)
    if address == _FAILED:
        reason = os.strerror(ctypes.get_errno())
        raise ResourceExhausted(f"No memory for {size} bytes of weights: {reason}")
    return address
