"""How a run is stopped that may loop or wait for ever.

The C API cannot cancel a run. But a run ends when one of its nodes fails: loops and waiting ops
look for that. So each run takes its outputs through a queue besides, into which it puts them once
they are there; to close the queue from outside is to make the taking fail. What neither loops
nor waits, a single large product say, still runs to its end.

Source: tensorflow/core/common_runtime/executor.cc, a failed node cancels its step;
tensorflow/core/kernels/control_flow_ops.cc, `LoopCondOp`; queue_base.cc.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from ctypes import c_void_p
from functools import lru_cache
from itertools import count
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import numpy as np

from lambda_serving import protos
from lambda_serving.dtypes import DType
from lambda_serving.errors import Cancelled, DeadlineExceeded, ServingError
from lambda_serving.servables.cancellation import Cancellation
from lambda_serving.servables.tensorflow_c.library import Buffer, Output, buffer_of, library, status
from lambda_serving.servables.tensorflow_c.tensors import new_tensor

__all__ = ["Places", "Stops", "run_options"]

_MOST_PLACES = 64
_LOOK_SECONDS = 0.05
_SCOPE = "lambda_serving/stops"
_FIRST_REFERENCE = 100  # DT_FLOAT_REF is DT_FLOAT + 100
_LATEST = 2**31 - 1  # of the versions of two graphs the older one counts
_CANCELLED = "The call was cancelled"
_numbers = count()


@lru_cache(maxsize=64)
def run_options(timeout_ms: int, *, in_caller_thread: bool) -> Buffer:
    """Serialized `RunOptions`; a run in the thread of the caller has no timeout."""
    options = protos.message("tensorflow.RunOptions")(
        timeout_in_ms=0 if in_caller_thread else max(timeout_ms, 0),
        inter_op_thread_pool=-1 if in_caller_thread else 0,
    )
    return buffer_of(options.SerializeToString())


class Places:
    """The runs that a session may make at a time, by number.

    Each may keep one of the session's threads for itself: what is over that would not even begin,
    and what has not begun cannot be stopped.
    """

    count = min(max(16, os.cpu_count() or 1), _MOST_PLACES)

    def __init__(self) -> None:
        self._free = SimpleQueue[int]()
        for number in range(self.count):
            self._free.put(number)

    def give_back(self, number: int) -> None:
        self._free.put(number)

    def take(self, timeout_ms: int, cancellation: Cancellation | None) -> int:
        """Waits for one; raises DeadlineExceeded after so long, 0 is no bound, and Cancelled."""
        with suppress(Empty):
            return self._free.get_nowait()
        late = monotonic() + timeout_ms / 1000 if timeout_ms > 0 else inf
        while monotonic() < late:
            if cancellation and cancellation.cancelled:
                raise Cancelled(_CANCELLED)
            with suppress(Empty):
                return self._free.get(timeout=_LOOK_SECONDS)
        raise DeadlineExceeded(f"Timed out waiting for {self.count} other runs of the model")


class Stops:
    """Added to a graph before its first run: a queue for each of so many runs of one function."""

    def __init__(self, graph: int, fetches: Sequence[Output], places: Places) -> None:
        self._places = places
        self._name = f"{_SCOPE}/{next(_numbers)}"
        _add(graph, self._definition(fetches), self._name, fetches)
        self.place = Output(self._operation(graph, "place"), 0)
        """What is fed the number of the run's place, a scalar of int32."""
        operations = [self._operation(graph, name) for name in ("put", "take")]
        self.targets = (c_void_p * 2)(*operations)
        """What is to run besides."""
        self._close = self._operation(graph, "close")
        self._forget = [self._operation(graph, f"forget{i}") for i in range(places.count)]

    @contextmanager
    def taken(self, session: int, timeout_ms: int) -> Iterator[int]:
        """A place, where the current call's cancellation stops the run.

        Raises Cancelled when it has stopped it, or came before, and as `Places.take` does.
        """
        cancellation = Cancellation.current()
        place = self._places.take(timeout_ms, cancellation)
        closed, clean = False, False

        def stop() -> None:
            nonlocal closed
            closed = True
            self._run(session, self._close, place)

        try:
            with cancellation.stopped_by(stop) if cancellation else nullcontext():
                yield place
            clean = not closed
        except ServingError as error:
            if closed:
                raise Cancelled(_CANCELLED) from error
            raise
        finally:
            if not clean:  # what was left in the queue would end the next run before its time
                self._run(session, self._forget[place], place)
            self._places.give_back(place)

    def failed_by_another(self, error: Cancelled) -> bool:
        """Whether another node failed, of which TensorFlow tells nothing but that it did.

        The failing of a function's node cancels the taking from the queue, and may be told later.
        The reason is then to be had from a run without the queue.
        """
        return f"{self._name}/take" in str(error)

    def _operation(self, graph: int, name: str) -> int:
        operation: int = library().TF_GraphOperationByName(graph, f"{self._name}/{name}".encode())
        return operation

    def _run(self, session: int, operation: int, place: int) -> None:
        """In this thread: those of the session may all be at work."""
        tensor = new_tensor(np.array(place, np.int32))
        try:
            with status() as st:
                library().TF_SessionRun(
                    session,
                    run_options(0, in_caller_thread=True),
                    (Output * 1)(self.place),
                    (c_void_p * 1)(tensor),
                    1,
                    None,
                    None,
                    0,
                    (c_void_p * 1)(operation),
                    1,
                    None,
                    st,
                )
        finally:
            library().TF_DeleteTensor(tensor)

    def _definition(self, fetches: Sequence[Output]) -> Any:
        """The nodes as a `tensorflow.GraphDef`, to which the fetches are `fetch0` and so on."""
        graph = protos.message("tensorflow.GraphDef")()
        graph.versions.producer = _LATEST
        dtypes = [_dtype(fetch) for fetch in fetches]

        def node(op: str, name: str, *inputs: str) -> Any:
            return graph.node.add(op=op, name=name, input=inputs, device="/device:CPU:0")

        def queue(op: str, name: str, number: int) -> None:
            made = node(op, name)
            made.attr["component_types"].list.type.extend(dtypes)
            made.attr["shared_name"].s = f"{self._name}/{number}".encode()

        node("Placeholder", "place").attr["dtype"].type = DType.INT32
        for i in range(self._places.count):
            queue("FIFOQueue", f"queue{i}", i)
            queue("FIFOQueueV2", f"handle{i}", i)
            node("DestroyResourceOp", f"forget{i}", f"handle{i}")
        queues = [f"queue{i}" for i in range(self._places.count)]
        chosen = node("RefSelect", "chosen", "place", *queues)
        chosen.attr["N"].i, chosen.attr["T"].type = self._places.count, DType.STRING
        put = node("QueueEnqueue", "put", "chosen", *(f"fetch{i}" for i in range(len(fetches))))
        put.attr["Tcomponents"].list.type.extend(dtypes)
        take = node("QueueDequeue", "take", "chosen")
        take.attr["component_types"].list.type.extend(dtypes)
        node("QueueClose", "close", "chosen").attr["cancel_pending_enqueues"].b = True
        return graph


def _add(graph: int, definition: Any, prefix: str, fetches: Sequence[Output]) -> None:
    lib, serialized = library(), definition.SerializeToString()
    options = lib.TF_NewImportGraphDefOptions()
    try:
        lib.TF_ImportGraphDefOptionsSetPrefix(options, prefix.encode())
        for i, fetch in enumerate(fetches):
            name = f"fetch{i}".encode()
            lib.TF_ImportGraphDefOptionsAddInputMapping(options, name, 0, fetch)
        with status() as st:
            lib.TF_GraphImportGraphDef(graph, buffer_of(serialized), options, st)
    finally:
        lib.TF_DeleteImportGraphDefOptions(options)


def _dtype(output: Output) -> int:
    """Of the values, also where the output is a reference to them."""
    dtype: int = library().TF_OperationOutputType(output)
    return dtype - _FIRST_REFERENCE if dtype > _FIRST_REFERENCE else dtype
