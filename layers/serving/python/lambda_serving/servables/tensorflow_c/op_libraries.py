"""Registers libraries of custom ops with TensorFlow, and lists what is registered."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.errors import InvalidArgument, ServingError
from lambda_serving.servables.tensorflow_c.library import (
    content_of,
    deleted,
    library,
    library_path,
    status,
)
from lambda_serving.servables.tensorflow_c.linker_order import shared_object

__all__ = ["load_op_library", "loaded_op_libraries", "ops"]

_FRAMEWORK = "libtensorflow_framework.so.2"
_loaded: list[str] = []


def load_op_library(path: str) -> None:
    """Registers the ops and kernels of a custom op library for the life of the process.

    On Linux, its symbols are looked up in TensorFlow's libraries first, as in Python TensorFlow.
    With its own copies of Abseil and protobuf, which hash differently, it would find no attribute
    of a node. On macOS, a library says itself where each symbol comes from. Raises InvalidArgument,
    with the linker's reason, when it cannot be loaded.
    """
    if path in _loaded:
        return
    wanted = Path(path)
    if wanted.exists():  # otherwise the linker searches its own folders
        wanted = wanted.absolute()
    with ExitStack() as on_failure:
        try:
            found = _ordered(wanted, on_failure)
            with status() as st:
                handle = library().TF_LoadLibrary(os.fsencode(found), st)
        except ServingError as error:
            raise InvalidArgument(f"Could not load op library {path}: {error}") from error
        on_failure.pop_all()
    library().TF_DeleteLibraryHandle(handle)
    _loaded.append(path)


def _ordered(wanted: Path, on_failure: ExitStack) -> str:
    """On Linux, the path of a library that needs TensorFlow's and then the wanted one.

    Its file stays open unless loading fails: TensorFlow knows it by its number.
    """
    if sys.platform != "linux":
        return str(wanted)
    tensorflow = library_path()
    opened = os.memfd_create("op-library")
    on_failure.callback(os.close, opened)
    os.write(opened, shared_object((tensorflow, tensorflow.with_name(_FRAMEWORK), wanted)))
    return f"/proc/self/fd/{opened}"


def loaded_op_libraries() -> list[str]:
    """The paths of the op libraries that this process has loaded, in order."""
    return list(_loaded)


def ops() -> Sequence[Any]:
    """The `tensorflow.OpDef` of each op that a graph may use."""
    with deleted(library().TF_GetAllOpList()) as buffer:
        found: Sequence[Any] = protos.message("tensorflow.OpList").FromString(content_of(buffer)).op
    return found
