"""A session over a SavedModel, and the functions of its signatures."""

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter

from lambda_serving import protos
from lambda_serving.dtypes import Array
from lambda_serving.errors import FailedPrecondition, InvalidArgument
from lambda_serving.tensorflow_c.library import Buffer, Output, library, status, trim_memory
from lambda_serving.tensorflow_c.quickness import Quickness
from lambda_serving.tensorflow_c.tensors import array_of, new_tensor

__all__ = ["Session", "SessionFunction", "load_session"]

_WAITING = (
    b"While",
    b"NextIteration",
    b"Queue",
    b"Barrier",
    b"Dataset",
    b"Iterator",
    b"BatchFunction",
    b"Unbatch",
    b"Recv",
)
"""Parts of the names of ops that loop, or that wait for others. A graph that has one of them
anywhere, be it in another word, is taken for one that may wait."""
_Tensors = ctypes.Array[c_void_p]


def load_session(
    export_dir: str, tags: Sequence[str], config: bytes = b""
) -> tuple["Session", bytes]:
    """A session over a SavedModel, and its serialized `MetaGraphDef`.

    Loads as TensorFlow Serving does: restore op, then init op. `tags` choose the meta graph;
    `config` is a serialized `tensorflow.ConfigProto`. Raises what TensorFlow says of a SavedModel
    that it cannot load.
    """
    lib = library()
    graph = lib.TF_NewGraph()
    try:
        with _session_options(config) as options:
            session, meta_graph = _load(graph, options, export_dir, tags)
    except BaseException:
        lib.TF_DeleteGraph(graph)
        raise
    return Session(session, graph, may_wait=any(op in meta_graph for op in _WAITING)), meta_graph


class Session:
    """TensorFlow's session with the graph and the restored variables of a SavedModel.

    `run` may be called from any number of threads. `close`, or the last reference going away,
    gives everything back; it waits for the runs in flight. `may_wait` says that a run may take
    longer than its inputs are large.
    """

    def __init__(self, session: int, graph: int, *, may_wait: bool) -> None:
        self.graph = graph
        self.may_wait = may_wait
        self._session = session
        self._idle = threading.Condition()
        self._running = 0
        self._closed = False
        self._release = weakref.finalize(self, _delete, session, graph)
        self._release.atexit = False  # the end of the process gives everything back anyway

    def run(
        self, feeds: Sequence[Output], arrays: Sequence[Array], fetches: Sequence[Output]
    ) -> list[Array]:
        """`SessionFunction` for a single call."""
        return SessionFunction(self, feeds, fetches)(arrays, 0)

    def function(
        self, feeds: Sequence[str], fetches: Sequence[str], *, follows_shapes: bool = False
    ) -> "SessionFunction":
        """A function of tensors by name, e.g. `serving_default_x:0`.

        `follows_shapes` says that its cost grows with the dimensions of its inputs and with
        nothing else (`costs`). Raises InvalidArgument for a name that the graph does not have.
        """
        with self.running():  # which keeps the graph, too
            return SessionFunction(
                self,
                [output_of(self.graph, name) for name in feeds],
                [output_of(self.graph, name) for name in fetches],
                follows_shapes=follows_shapes,
            )

    @contextmanager
    def running(self) -> Iterator[int]:
        """The session's pointer, kept alive inside the block; FailedPrecondition when closed."""
        with self._idle:
            if self._closed:
                raise FailedPrecondition("Session has been closed.")
            self._running += 1
        try:
            yield self._session
        finally:
            with self._idle:
                self._running -= 1
                if self._closed:
                    self._idle.notify_all()

    def close(self) -> None:
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._running == 0)
        self._release()
        trim_memory()


@dataclass(frozen=True, slots=True)
class _Ends:
    """One end of a function as C arrays: the tensors in the graph, and how many."""

    outputs: "ctypes.Array[Output]"
    count: int


class SessionFunction:
    """Feeds in, fetches out, everything that can be looked up beforehand looked up.

    A run that has proved to be quick is made in the thread of the caller: to hand a small graph to
    TensorFlow's threads and back takes longer than to compute it. It has no timeout, and needs
    none: no values can make it loop or wait.
    """

    def __init__(
        self,
        session: Session,
        feeds: Sequence[Output],
        fetches: Sequence[Output],
        *,
        follows_shapes: bool = False,
    ) -> None:
        self._session = session
        self._feeds = _Ends((Output * len(feeds))(*feeds), len(feeds))
        self._fetches = _Ends((Output * len(fetches))(*fetches), len(fetches))
        self._quickness = Quickness(follows_shapes=follows_shapes)

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        """Whether a run of these inputs takes less than handing it to another thread would."""
        return self._quickness.covers(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        """Arrays in the order of the fetches, for arrays in the order of the feeds.

        `timeout_ms` bounds the run, 0 is no bound; over it DeadlineExceeded is raised. Raises
        whatever else the graph raises.
        """
        feeds = (c_void_p * self._feeds.count)()
        fetches = (c_void_p * self._fetches.count)()
        try:
            for i, array in zip(range(self._feeds.count), inputs, strict=True):
                feeds[i] = new_tensor(array)
            options = _run_options(timeout_ms, in_caller_thread=self.is_quick(inputs))
            start = perf_counter()
            self._run(feeds, fetches, options)
            self._quickness.record(inputs, perf_counter() - start)
            return [array_of(tensor) for tensor in fetches if tensor]
        finally:
            delete = library().TF_DeleteTensor
            for tensor in (*feeds, *fetches):
                if tensor:
                    delete(tensor)

    def _run(self, feeds: _Tensors, fetches: _Tensors, options: Buffer) -> None:
        with self._session.running() as session, status() as st:
            library().TF_SessionRun(
                session,
                options,
                self._feeds.outputs,
                feeds,
                self._feeds.count,
                self._fetches.outputs,
                fetches,
                self._fetches.count,
                None,
                0,
                None,
                st,
            )


def output_of(graph: int, tensor_name: str) -> Output:
    """The output of an operation that a tensor's name, `operation:index`, stands for.

    Raises InvalidArgument for a name that the graph does not have.
    """
    lib = library()
    operation, _, index = tensor_name.partition(":")
    pointer = lib.TF_GraphOperationByName(graph, operation.encode())
    if not pointer or not (index or "0").isdecimal():
        raise InvalidArgument(f"Tensor {tensor_name} is not in the graph")
    if (number := int(index or 0)) >= lib.TF_OperationNumOutputs(pointer):
        raise InvalidArgument(f"Tensor {tensor_name} is not in the graph")
    return Output(pointer, number)


def operation_of(graph: int, name: str) -> int:
    """The operation of that name; raises InvalidArgument if the graph has none."""
    pointer: int | None = library().TF_GraphOperationByName(graph, name.encode())
    if not pointer:
        raise InvalidArgument(f"Operation {name} is not in the graph")
    return pointer


def _load(graph: int, options: int, export_dir: str, tags: Sequence[str]) -> tuple[int, bytes]:
    """The session's pointer and the serialized `MetaGraphDef`."""
    lib = library()
    names = (c_char_p * len(tags))(*(tag.encode() for tag in tags))
    buffer = lib.TF_NewBuffer()
    try:
        with status() as st:
            session = lib.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(export_dir), names, len(tags), graph, buffer, st
            )
        return session, ctypes.string_at(buffer.contents.data, buffer.contents.length)
    finally:
        lib.TF_DeleteBuffer(buffer)


def _delete(session: int, graph: int) -> None:
    lib = library()
    with status() as st:
        lib.TF_CloseSession(session, st)
    with status() as st:
        lib.TF_DeleteSession(session, st)
    lib.TF_DeleteGraph(graph)


@contextmanager
def _session_options(config: bytes) -> Iterator[int]:
    lib = library()
    options = lib.TF_NewSessionOptions()
    try:
        with status() as st:
            lib.TF_SetConfig(options, config, len(config), st)
        yield options
    finally:
        lib.TF_DeleteSessionOptions(options)


@lru_cache(maxsize=64)
def _run_options(timeout_ms: int, *, in_caller_thread: bool) -> Buffer:
    """Serialized `RunOptions`; Python owns the memory, TensorFlow only reads it."""
    options = protos.message("tensorflow.RunOptions")(
        timeout_in_ms=0 if in_caller_thread else max(timeout_ms, 0),
        inter_op_thread_pool=-1 if in_caller_thread else 0,
    )
    serialized = options.SerializeToString()
    buffer = Buffer(ctypes.cast(c_char_p(serialized), c_void_p), len(serialized))
    buffer.owner = serialized
    return buffer
