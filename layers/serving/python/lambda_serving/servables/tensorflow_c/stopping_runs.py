"""A way to stop a run that may loop or wait for ever.

The C API cannot cancel a run. But a run ends when one of its nodes fails, as loops and waiting ops
check. So each run also puts its outputs into a queue when they are ready, and takes them out again.
Closing the queue from outside makes the taking fail, and so stops the run. An op that neither loops
nor waits, such as a single large product, still runs to its end.

Source: tensorflow/core/common_runtime/executor.cc, a failed node cancels its step;
tensorflow/core/kernels/control_flow_ops.cc, `LoopCondOp`; queue_base.cc.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from ctypes import c_void_p
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
from lambda_serving.servables.tensorflow_c.library import library, status
from lambda_serving.servables.tensorflow_c.prototypes import Buffer, Output
from lambda_serving.servables.tensorflow_c.session_run import ends_of, run, run_options
from lambda_serving.servables.tensorflow_c.tensors import new_tensor

__all__ = ["Places", "Stops"]

_MOST_PLACES = 64
_LOOK_SECONDS = 0.05
_SCOPE = "lambda_serving/stops"
_LATEST = 2**31 - 1  # when graphs are merged, the older version counts
_CANCELLED = "The call was cancelled"
_numbers = count()


class Places:
    """Numbered places for the concurrent runs of a session.

    Each run may occupy one of the session's threads. Further runs could not begin, and a run that
    has not begun cannot be stopped.
    """

    count = min(max(16, os.cpu_count() or 1), _MOST_PLACES)

    def __init__(self) -> None:
        self._free = SimpleQueue[int]()
        for number in range(self.count):
            self._free.put(number)

    def give_back(self, number: int) -> None:
        self._free.put(number)

    def take(self, timeout_ms: int, cancellation: Cancellation | None) -> int:
        """Waits for a place; raises Cancelled, or DeadlineExceeded after `timeout_ms`, 0: never."""
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
    """One queue for each concurrent run of a function, added to the graph before its first run."""

    def __init__(self, graph: int, fetches: Sequence[Output], places: Places) -> None:
        self._places = places
        self._name = f"{_SCOPE}/{next(_numbers)}"
        _add(graph, self._definition(fetches), self._name, fetches)
        self.place = Output(self._operation(graph, "place"), 0)
        """The placeholder for the number of the run's place, an int32 scalar."""
        operations = [self._operation(graph, name) for name in ("put", "take")]
        self.targets = (c_void_p * 2)(*operations)
        """The operations to run along with the fetches."""
        self._close = self._operation(graph, "close")
        self._forget = [self._operation(graph, f"forget{i}") for i in range(places.count)]

    @contextmanager
    def taken(self, session: int, timeout_ms: int) -> Iterator[int]:
        """A place for a run, which the current call's cancellation stops.

        Raises Cancelled when the call is cancelled before or during the block, and what
        `Places.take` raises.
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
            if not clean:  # leftovers in the queue would end the next run too early
                self._run(session, self._forget[place], place)
            self._places.give_back(place)

    def failed_by_another(self, error: Cancelled) -> bool:
        """Whether another node failed, and TensorFlow hides its error behind this one.

        A failing node inside a function cancels the taking from the queue, and TensorFlow may
        report that first. A run without the queue then gives the real error.
        """
        return f"{self._name}/take" in str(error)

    def _operation(self, graph: int, name: str) -> int:
        operation: int = library().TF_GraphOperationByName(graph, f"{self._name}/{name}".encode())
        return operation

    def _run(self, session: int, operation: int, place: int) -> None:
        """Runs an operation on this thread, as the session's threads may all be busy."""
        tensor = new_tensor(np.array(place, np.int32))
        targets, options = (c_void_p * 1)(operation), run_options(0, in_caller_thread=True)
        try:
            run(session, ends_of([self.place]), [tensor], targets=targets, options=options)
        finally:
            library().TF_DeleteTensor(tensor)

    def _definition(self, fetches: Sequence[Output]) -> Any:
        """The nodes to add, a `tensorflow.GraphDef`; it calls the fetches `fetch0` and so on."""
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
            lib.TF_GraphImportGraphDef(graph, Buffer.holding(serialized), options, st)
    finally:
        lib.TF_DeleteImportGraphDefOptions(options)


def _dtype(output: Output) -> DType:
    """The dtype of an output's values, also if it is a reference to them."""
    return DType.of_number(library().TF_OperationOutputType(output))
