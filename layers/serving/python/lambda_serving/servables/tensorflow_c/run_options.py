"""How long a run may take, and in which threads."""

from functools import lru_cache

from lambda_serving import protos
from lambda_serving.servables.tensorflow_c.library import Buffer, buffer_of

__all__ = ["run_options"]


@lru_cache(maxsize=64)
def run_options(timeout_ms: int, *, in_caller_thread: bool) -> Buffer:
    """Serialized `RunOptions`; a run in the thread of the caller has no timeout."""
    options = protos.message("tensorflow.RunOptions")(
        timeout_in_ms=0 if in_caller_thread else max(timeout_ms, 0),
        inter_op_thread_pool=-1 if in_caller_thread else 0,
    )
    return buffer_of(options.SerializeToString())
