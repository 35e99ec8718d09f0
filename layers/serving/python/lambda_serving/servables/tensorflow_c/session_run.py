"""One run of a session, with its arguments as C arrays."""

import ctypes
from collections.abc import Sequence
from ctypes import c_void_p
from functools import lru_cache

from lambda_serving import protos
from lambda_serving.servables.tensorflow_c.library import library, status
from lambda_serving.servables.tensorflow_c.prototypes import Buffer, Output

__all__ = ["Ends", "Pointers", "ends_of", "run", "run_options"]

Pointers = ctypes.Array[c_void_p]
Ends = ctypes.Array[Output]
"""The feeds or the fetches of a run."""


def ends_of(outputs: Sequence[Output]) -> Ends:
    """Outputs of a graph as a C array."""
    return (Output * len(outputs))(*outputs)


_NOTHING = ends_of([])


@lru_cache(maxsize=64)
def run_options(timeout_ms: int, *, in_caller_thread: bool) -> Buffer:
    """Serialized `RunOptions`; a run on the caller's thread has no timeout."""
    options = protos.message("tensorflow.RunOptions")(
        timeout_in_ms=0 if in_caller_thread else max(timeout_ms, 0),
        inter_op_thread_pool=-1 if in_caller_thread else 0,
    )
    return Buffer.holding(options.SerializeToString())


def run(
    session: int,
    feeds: Ends,
    tensors: Sequence[int],
    fetches: Ends = _NOTHING,
    fetched: Pointers | None = None,
    targets: Pointers | None = None,
    options: Buffer | None = None,
) -> None:
    """Feeds `tensors`, runs the operations `targets`, and puts new tensors into `fetched`.

    Raises whatever the graph raises; `fetched` may hold tensors all the same.
    """
    with status() as st:
        library().TF_SessionRun(
            session,
            options,
            feeds,
            (c_void_p * len(feeds))(*tensors),
            len(feeds),
            fetches,
            fetched,
            len(fetches),
            targets,
            0 if targets is None else len(targets),
            None,
            st,
        )
