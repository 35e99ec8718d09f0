"""TensorFlow's shared library, opened once per process, and the prototypes of its functions.

Source: tensorflow/c/c_api.h, tf_tensor.h, tf_tstring.h, tf_status.h.
"""

import ctypes
import logging
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.errors import FailedPrecondition, InvalidArgument, ServingError, of_code

__all__ = [
    "DEALLOCATOR",
    "Buffer",
    "Output",
    "has_python",
    "library",
    "load_op_library",
    "op_libraries",
    "ops",
    "registered_ops",
    "status",
    "trim_memory",
    "version",
]

_log = logging.getLogger(__name__)
DEALLOCATOR = CFUNCTYPE(None, c_void_p, c_size_t, c_void_p)
_LIBRARY, _FRAMEWORK = "libtensorflow_cc.so.2", "libtensorflow_framework.so.2"
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


class Output(Structure):
    """`TF_Output`: one output of an operation in a graph."""

    _fields_ = (("oper", c_void_p), ("index", c_int))


class Buffer(Structure):
    """The fields of a `TF_Buffer`: a serialized message from or for the library."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))
    owner: bytes
    """The memory, if Python owns it."""


def buffer_of(serialized: bytes) -> Buffer:
    """A message for the library, which only reads it; Python owns the memory."""
    buffer = Buffer(ctypes.cast(c_char_p(serialized), c_void_p), len(serialized))
    buffer.owner = serialized
    return buffer


_PROTOTYPES = {
    "TF_Version": (c_char_p, ()),
    "TF_NewStatus": (c_void_p, ()),
    "TF_DeleteStatus": (None, (c_void_p,)),
    "TF_GetCode": (c_int, (c_void_p,)),
    "TF_Message": (c_char_p, (c_void_p,)),
    "TF_NewBuffer": (POINTER(Buffer), ()),
    "TF_DeleteBuffer": (None, (POINTER(Buffer),)),
    "TF_LoadLibrary": (c_void_p, (c_char_p, c_void_p)),
    "TF_DeleteLibraryHandle": (None, (c_void_p,)),
    "TF_GetAllOpList": (POINTER(Buffer), ()),
    "TF_AllocateTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_size_t)),
    "TF_NewTensor": (
        c_void_p,
        (c_int, POINTER(c_int64), c_int, c_void_p, c_size_t, DEALLOCATOR, c_void_p),
    ),
    "TF_DeleteTensor": (None, (c_void_p,)),
    "TF_TensorType": (c_int, (c_void_p,)),
    "TF_NumDims": (c_int, (c_void_p,)),
    "TF_Dim": (c_int64, (c_void_p, c_int)),
    "TF_TensorByteSize": (c_size_t, (c_void_p,)),
    "TF_TensorData": (c_void_p, (c_void_p,)),
    "TF_StringCopy": (None, (c_void_p, c_char_p, c_size_t)),
    "TF_StringDealloc": (None, (c_void_p,)),
    "TF_StringGetDataPointer": (c_void_p, (c_void_p,)),
    "TF_StringGetSize": (c_size_t, (c_void_p,)),
    "TF_NewGraph": (c_void_p, ()),
    "TF_DeleteGraph": (None, (c_void_p,)),
    "TF_GraphOperationByName": (c_void_p, (c_void_p, c_char_p)),
    "TF_OperationName": (c_char_p, (c_void_p,)),
    "TF_OperationOpType": (c_char_p, (c_void_p,)),
    "TF_OperationNumInputs": (c_int, (c_void_p,)),
    "TF_OperationNumOutputs": (c_int, (c_void_p,)),
    "TF_OperationAllInputs": (None, (c_void_p, POINTER(Output), c_int)),
    "TF_OperationNumControlInputs": (c_int, (c_void_p,)),
    "TF_OperationGetControlInputs": (c_int, (c_void_p, POINTER(c_void_p), c_int)),
    "TF_OperationOutputType": (c_int, (Output,)),
    "TF_NewImportGraphDefOptions": (c_void_p, ()),
    "TF_DeleteImportGraphDefOptions": (None, (c_void_p,)),
    "TF_ImportGraphDefOptionsSetPrefix": (None, (c_void_p, c_char_p)),
    "TF_ImportGraphDefOptionsAddInputMapping": (None, (c_void_p, c_char_p, c_int, Output)),
    "TF_GraphToGraphDef": (None, (c_void_p, POINTER(Buffer), c_void_p)),
    "TF_GraphImportGraphDef": (None, (c_void_p, POINTER(Buffer), c_void_p, c_void_p)),
    "TF_NewOperation": (c_void_p, (c_void_p, c_char_p, c_char_p)),
    "TF_AddInput": (None, (c_void_p, Output)),
    "TF_FinishOperation": (c_void_p, (c_void_p, c_void_p)),
    "TF_NewSessionOptions": (c_void_p, ()),
    "TF_DeleteSessionOptions": (None, (c_void_p,)),
    "TF_SetConfig": (None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        (
            c_void_p,
            c_void_p,
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(Buffer),
            c_void_p,
        ),
    ),
    "TF_CloseSession": (None, (c_void_p, c_void_p)),
    "TF_DeleteSession": (None, (c_void_p, c_void_p)),
    "TF_SessionRun": (
        None,
        (
            c_void_p,
            POINTER(Buffer),
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(c_void_p),
            c_int,
            c_void_p,
            c_void_p,
        ),
    ),
}


@cache
def library() -> ctypes.CDLL:
    """TensorFlow's C API, from the installed `tensorflow` wheel, which is not imported.

    It is opened with libc's own dlopen, because that of ctypes holds the interpreter's lock and
    binds every function at once (0.28 s instead of 0.18 s). Symbols stay local: with global ones, a
    later `import numpy.random` crashes the process. Raises FailedPrecondition when there is no
    library.
    """
    path = _path()
    _keep_kernels()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.dlopen.restype, libc.dlopen.argtypes = c_void_p, (c_char_p, c_int)
    libc.dlerror.restype = c_char_p
    handle = libc.dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)
    if not handle:
        raise FailedPrecondition(f"Could not open TensorFlow's library: {libc.dlerror().decode()}")
    _drop_linker_pages(libc)
    opened = ctypes.CDLL(str(path), handle=handle)
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(opened, name)
        function.restype, function.argtypes = result, arguments
    return opened


def _keep_kernels() -> None:
    """Makes TensorFlow run the kernels that a graph names, the same ones on every processor.

    Otherwise TensorFlow replaces them with oneDNN's, on some processors by default. Those crash on
    a tensor of unexpected rank, give empty tensors other shapes, and lose NaN. A compiled graph
    names the oneDNN convolutions that it uses, behind guards.
    """
    if os.environ.get(_ONEDNN, "0").lower() not in {"0", "false"}:
        _log.warning(
            "%s has no effect: oneDNN's kernels are used only where `lambda-serving compile`"
            " found them safe",
            _ONEDNN,
        )
    os.environ[_ONEDNN] = "0"


def _drop_linker_pages(libc: ctypes.CDLL) -> None:
    """Releases the pages that only linking needed, mostly names of symbols: 100 MB.

    They are unchanged pages of a file, which come back from the page cache if needed again. Other
    read-only pages are kept, as relocations were written into them.
    """
    maps = Path("/proc/self/maps")
    libc.madvise.argtypes = (c_void_p, c_size_t, c_int)
    for line in maps.read_text().splitlines() if maps.exists() else ():
        addresses, permissions, offset, *_ = line.split()
        unchanged = permissions == "r--p" and int(offset, 16) == 0
        if "/libtensorflow_" in line and unchanged:
            start, end = (int(address, 16) for address in addresses.split("-"))
            libc.madvise(start, end - start, mmap.MADV_DONTNEED)


def _path() -> Path:
    package = find_spec("tensorflow")  # finds without importing
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder, _LIBRARY)).exists():
            return path
    raise FailedPrecondition(
        f"TensorFlow's library {_LIBRARY} was not found. Install it: pip install tensorflow-cpu"
    )


def has_python() -> bool:
    """Whether Python TensorFlow is installed, not only its libraries."""
    package = find_spec("tensorflow")
    return package is not None and package.origin is not None


def version() -> str:
    """TensorFlow's version, e.g. `2.21.0`."""
    text: bytes = library().TF_Version()
    return text.decode()


def load_op_library(path: str) -> None:
    """Registers the ops and kernels of a custom op library for the life of the process.

    Its symbols are looked up in TensorFlow's libraries first, as in Python TensorFlow. With its own
    copies of Abseil and protobuf, which hash differently, it would find no attribute of a node.
    Raises InvalidArgument, with the linker's reason, when it cannot be loaded.
    """
    if path in _op_libraries():
        return
    from lambda_serving.servables.tensorflow_c.linker_order import (
        shared_object,  # few models need it
    )

    tensorflow, wanted = _path(), Path(path)
    if wanted.exists():  # otherwise the linker searches its own folders
        wanted = wanted.absolute()
    needed = (tensorflow, tensorflow.with_name(_FRAMEWORK), wanted)
    opened = os.memfd_create("op-library")  # stays open: TensorFlow knows it by its number
    try:
        os.write(opened, shared_object(needed))
        with status() as st:
            handle = library().TF_LoadLibrary(f"/proc/self/fd/{opened}".encode(), st)
    except ServingError as error:
        os.close(opened)
        raise InvalidArgument(f"Could not load op library {path}: {error}") from error
    library().TF_DeleteLibraryHandle(handle)
    _op_libraries()[path] = None


def registered_ops() -> set[str]:
    """The names of all ops that a graph may use."""
    return {op.name for op in ops()}


def ops() -> Sequence[Any]:
    """The `tensorflow.OpDef` of each registered op."""
    buffer = library().TF_GetAllOpList()
    try:
        serialized = ctypes.string_at(buffer.contents.data, buffer.contents.length)
    finally:
        library().TF_DeleteBuffer(buffer)
    found: Sequence[Any] = protos.message("tensorflow.OpList").FromString(serialized).op
    return found


def op_libraries() -> list[str]:
    """The paths of the op libraries that this process has loaded, in order."""
    return list(_op_libraries())


@cache
def _op_libraries() -> dict[str, None]:
    return {}


@contextmanager
def status() -> Iterator[int]:
    """A `TF_Status` to pass to a call; at the end of the block, its code is raised as our error."""
    lib = library()
    st = lib.TF_NewStatus()
    try:
        yield st
        if code := lib.TF_GetCode(st):
            raise of_code(code, lib.TF_Message(st).decode("utf-8", "replace"))
    finally:
        lib.TF_DeleteStatus(st)


def trim_memory() -> None:
    """Returns freed memory to the system; glibc would keep some, 300 MB after a ResNet-50."""
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """None where the C library is not glibc."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
