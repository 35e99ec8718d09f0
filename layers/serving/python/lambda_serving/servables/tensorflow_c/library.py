"""TensorFlow's shared library, opened once per process."""

import ctypes
import logging
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lambda_serving.errors import FailedPrecondition, of_code
from lambda_serving.installation import mending
from lambda_serving.servables.tensorflow_c.prototypes import PROTOTYPES

__all__ = ["content_of", "deleted", "has_python", "library", "library_path", "status", "version"]

_log = logging.getLogger(__name__)
_LIBRARY = "libtensorflow_cc.2.dylib" if sys.platform == "darwin" else "libtensorflow_cc.so.2"


@cache
def library() -> ctypes.CDLL:
    """TensorFlow's C API, from the installed `tensorflow` wheel, which is not imported.

    It is opened with libc's own dlopen, because that of ctypes holds the interpreter's lock and
    binds every function at once (0.28 s instead of 0.18 s). Symbols stay local: with global ones, a
    later `import numpy.random` crashes the process. Raises FailedPrecondition when there is no
    library, or a damaged one.
    """
    path = library_path()
    _keep_kernels()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.dlopen.restype, libc.dlopen.argtypes = c_void_p, (c_char_p, c_int)
    libc.dlerror.restype = c_char_p
    handle = libc.dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)
    if not handle:
        raise _damaged(libc.dlerror().decode())
    _drop_linker_pages(libc)
    opened = ctypes.CDLL(str(path), handle=handle)
    try:
        functions = {name: getattr(opened, name) for name in PROTOTYPES}
    except AttributeError as error:
        raise _damaged(str(error)) from error
    for name, (result, arguments) in PROTOTYPES.items():
        functions[name].restype, functions[name].argtypes = result, arguments
    return opened


def _damaged(reason: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"Could not open TensorFlow's library: {reason}. Install it again: {mending('tensorflow')}"
    )


def _keep_kernels() -> None:
    """Makes TensorFlow run the kernels that a graph names, the same ones on every processor.

    Otherwise TensorFlow replaces them with oneDNN's, on some processors by default. Those crash on
    a tensor of unexpected rank, give empty tensors other shapes, and lose NaN. A compiled graph
    names the oneDNN convolutions that it uses, behind guards.
    """
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "0").lower() not in {"0", "false"}:
        _log.warning(
            "TF_ENABLE_ONEDNN_OPTS has no effect: oneDNN's kernels are used only where"
            " `lambda-serving compile` found them safe"
        )
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"


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


def library_path() -> Path:
    """Where TensorFlow's library is installed; raises FailedPrecondition if it is not."""
    package = find_spec("tensorflow")  # finds without importing
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder, _LIBRARY)).exists():
            return path
    raise FailedPrecondition(
        f"TensorFlow's library {_LIBRARY} was not found. Install it: {mending('tensorflow')}."
        " Images for LiteRT models have none: use one that has it, or compile the model with"
        " --runtime=litert"
    )


def has_python() -> bool:
    """Whether Python TensorFlow is installed, not only its libraries."""
    package = find_spec("tensorflow")
    return package is not None and package.origin is not None


def version() -> str:
    """TensorFlow's version, e.g. `2.21.0`."""
    text: bytes = library().TF_Version()
    return text.decode()


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


@contextmanager
def deleted(buffer: Any) -> Iterator[Any]:
    """A pointer to a `TF_Buffer`, which is deleted at the end of the block."""
    try:
        yield buffer
    finally:
        library().TF_DeleteBuffer(buffer)


def content_of(buffer: Any) -> bytes:
    """The serialized message in a `TF_Buffer`."""
    return ctypes.string_at(buffer.contents.data, buffer.contents.length)
