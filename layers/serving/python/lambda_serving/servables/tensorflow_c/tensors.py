"""Converts numpy arrays to `TF_Tensor`s and back, with one copy each way."""

import ctypes
from collections.abc import Iterable
from ctypes import c_int64

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument, ResourceExhausted, Unimplemented
from lambda_serving.servables.tensorflow_c.library import library
from lambda_serving.servables.tensorflow_c.prototypes import DEALLOCATOR

__all__ = ["array_of", "new_tensor"]

_TSTRING_SIZE = 24
_PART = 2**16
_SMALL = 2**20  # bytes of strings copied without checking for memory


def new_tensor(array: Array) -> int:
    """A `TF_Tensor` that holds a copy of `array`; the caller deletes it.

    An array of objects or of characters becomes strings: `bytes` unchanged, `str` as UTF-8.
    Raises InvalidArgument for elements or a dtype that no tensor can hold, and ResourceExhausted
    when there is no memory.
    """
    try:
        dtype = DType.of(array.dtype)
    except KeyError:
        raise InvalidArgument(f"TensorFlow has no dtype for arrays of {array.dtype}") from None
    if dtype is DType.STRING:
        return _new_strings(array)
    if not (array.flags.c_contiguous and array.dtype.isnative):
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    lib = library()
    tensor: int = lib.TF_AllocateTensor(dtype, _dims(array), array.ndim, array.nbytes)
    if array.nbytes or not tensor:
        data = lib.TF_TensorData(tensor) if tensor else None
        if not data:  # a tensor that could not be allocated looks like any other
            if tensor:
                lib.TF_DeleteTensor(tensor)
            raise _no_memory(array.nbytes)
        ctypes.memmove(data, array.__array_interface__["data"][0], array.nbytes)
    return tensor


def array_of(tensor: int) -> Array:
    """A copy of a tensor's elements, strings as `bytes` objects; the caller keeps the tensor.

    Raises Unimplemented for a dtype that no array can hold (resource, variant), and
    ResourceExhausted when there is no memory.
    """
    lib = library()
    shape = tuple(lib.TF_Dim(tensor, axis) for axis in range(lib.TF_NumDims(tensor)))
    dtype = DType(lib.TF_TensorType(tensor))
    if dtype is DType.STRING:
        return _strings_of(tensor, shape)
    try:
        array: Array = np.empty(shape, dtype.numpy)
    except KeyError:
        raise Unimplemented(f"An output of type {dtype.label} cannot be returned") from None
    except MemoryError:
        raise _no_memory(lib.TF_TensorByteSize(tensor)) from None
    if array.nbytes:
        ctypes.memmove(
            array.__array_interface__["data"][0], lib.TF_TensorData(tensor), array.nbytes
        )
    return array


def _dims(array: Array) -> ctypes.Array[c_int64]:
    return (c_int64 * array.ndim)(*array.shape)


def _new_strings(array: Array) -> int:
    """A tensor of strings, which TensorFlow frees by calling `_free_strings`.

    Only TensorFlow knows when: a graph may keep the elements after a run, in a variable or table.
    """
    elements = [_as_bytes(element) for element in array.flat]
    lib, size = library(), _TSTRING_SIZE * len(elements)
    _check_memory(size + sum(sum(map(len, elements[part])) for part in _parts(len(elements))))
    memory = _libc.calloc(max(len(elements), 1), _TSTRING_SIZE)  # zeros are an empty string
    if not memory:
        raise _no_memory(size)
    for address, element in zip(_addresses(memory, size), elements, strict=True):
        lib.TF_StringCopy(address, element, len(element))
    tensor: int | None = lib.TF_NewTensor(
        DType.STRING, _dims(array), array.ndim, memory, size, _free_strings, None
    )
    if not tensor:
        _free(memory, size, None)
        raise _no_memory(size)
    return tensor


def _check_memory(size: int) -> None:
    """Raises if there is no memory: `TF_StringCopy` would end the process instead."""
    if size < _SMALL:
        return
    memory = _libc.malloc(size)
    if not memory:
        raise _no_memory(size)
    _libc.free(memory)


def _no_memory(size: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"There is no memory for a tensor of {size} bytes. Send less in a request, or try again"
        " later"
    )


def _as_bytes(element: object) -> bytes:
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        try:
            return element.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"A str that UTF-8 cannot encode: {error}") from error
    raise InvalidArgument(f"A string tensor holds bytes or str, not {type(element).__name__}")


def _strings_of(tensor: int, shape: tuple[int, ...]) -> Array:
    lib = library()
    data, size = lib.TF_TensorData(tensor), lib.TF_TensorByteSize(tensor)
    flat = [
        ctypes.string_at(lib.TF_StringGetDataPointer(address), lib.TF_StringGetSize(address))
        for address in _addresses(data, size)
    ]
    array: Array = np.empty(len(flat), object)
    for part in _parts(len(flat)):
        array[part] = flat[part]
    return array.reshape(shape)


def _parts(count: int) -> Iterable[slice]:
    """Slices of elements, each handled by one call into C that blocks all other threads."""
    return (slice(start, start + _PART) for start in range(0, count, _PART))


def _addresses(data: int | None, size: int) -> Iterable[int]:
    start = data or 0
    return range(start, start + size, _TSTRING_SIZE)


_libc = ctypes.CDLL(None)
_libc.calloc.restype, _libc.calloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
_libc.malloc.restype, _libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
_libc.free.restype, _libc.free.argtypes = None, (ctypes.c_void_p,)


def _free(data: int, size: int, _: object) -> None:
    lib = library()
    for address in _addresses(data, size):
        lib.TF_StringDealloc(address)
    _libc.free(data)


_free_strings = DEALLOCATOR(_free)
