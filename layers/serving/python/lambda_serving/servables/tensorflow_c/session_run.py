"""One run of a session, with its arguments as C arrays."""

import ctypes
from collections.abc import Sequence
from ctypes import c_void_p
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from lambda_serving import protos
from lambda_serving.servables.tensorflow_c.library import library, status
from lambda_serving.servables.tensorflow_c.prototypes import Buffer, Output

__all__ = ["NO_ENDS", "Ends", "Pointers", "run", "run_options"]

Pointers = ctypes.Array[c_void_p]


@dataclass(frozen=True, slots=True)
class Ends:
    """The feeds or the fetches of a run, as a C array, and how many there are."""

    outputs: ctypes.Array[Output]
    count: int

    @classmethod
    def of(cls, outputs: Sequence[Output]) -> Self:
        return cls((Output * len(outputs))(*outputs), len(outputs))


NO_ENDS = Ends.of([])


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
    fetches: Ends = NO_ENDS,
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
            feeds.outputs,
            (c_void_p * feeds.count)(*tensors),
            feeds.count,
            fetches.outputs,
            fetched,
            fetches.count,
            targets,
            0 if targets is None else len(targets),
            None,
            st,
        )
