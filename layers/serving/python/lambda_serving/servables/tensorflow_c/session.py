"""A session over a SavedModel, and functions that run parts of its graph."""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p, c_void_p
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from time import perf_counter

import numpy as np

from lambda_serving import protos
from lambda_serving.dtypes import Array
from lambda_serving.errors import Cancelled, FailedPrecondition, InvalidArgument, Unknown
from lambda_serving.servables.tensorflow_c.library import (
    Buffer,
    Output,
    library,
    status,
    trim_memory,
)
from lambda_serving.servables.tensorflow_c.quick_runs import Quickness
from lambda_serving.servables.tensorflow_c.stopping_runs import Places, Stops, run_options
from lambda_serving.servables.tensorflow_c.tensors import array_of, new_tensor

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
"""Parts of the names of ops that loop or wait. A file that contains one of them anywhere, even
within another word, counts as a graph that may wait."""
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
_MOST_STOPS = 64  # functions of a session that can be stopped; each enlarges the graph
_UNTOLD = (
    "A node of a function or loop failed, and TensorFlow does not say which or why. Another run"
    " would say, but this graph has lasting effects, so it is not run twice"
)
_Tensors = ctypes.Array[c_void_p]


def load_session(
    export_dir: str, tags: Sequence[str], config: bytes = b""
) -> tuple["Session", bytes]:
    """A session over a SavedModel, and its serialized `MetaGraphDef`.

    Loads as TensorFlow Serving does: restore op, then init op. `tags` choose the meta graph;
    `config` is a serialized `tensorflow.ConfigProto`. Raises TensorFlow's error for a SavedModel
    that it cannot load.
    """
    lib = library()
    may_wait = _may_wait(Path(export_dir))
    graph = lib.TF_NewGraph()
    try:
        with _session_options(_with_threads(config) if may_wait else config) as options:
            session, meta_graph = _load(graph, options, export_dir, tags)
    except BaseException:
        lib.TF_DeleteGraph(graph)
        raise
    return Session(session, graph, may_wait=may_wait), meta_graph


def _may_wait(export_dir: Path) -> bool:
    for name in _GRAPHS:
        path = export_dir / name
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                return any(content.find(op) >= 0 for op in _WAITING)
    return False


def _with_threads(config: bytes) -> bytes:
    """The `tensorflow.ConfigProto` with threads for this session alone, unless it names a pool.

    A loop occupies a thread: with shared threads, a few loops would leave none to other models.
    """
    known = protos.message("tensorflow.ConfigProto").FromString(config)
    if known.session_inter_op_thread_pool or known.use_per_session_threads:
        return config
    known.use_per_session_threads = True
    known.inter_op_parallelism_threads = max(known.inter_op_parallelism_threads, Places.count)
    serialized: bytes = known.SerializeToString()
    return serialized


class Session:
    """TensorFlow's session with the graph and the restored variables of a SavedModel.

    Any number of threads may call `run`. `close`, or dropping the last reference, waits for runs
    in flight and releases everything. `may_wait` says that a run may loop or wait.
    """

    def __init__(self, session: int, graph: int, *, may_wait: bool) -> None:
        self.graph = graph
        self.may_wait = may_wait
        self._session = session
        self._idle = threading.Condition()
        self._running = 0
        self._stops = 0
        self._places = Places()
        self._closed = False
        self._ends: list[Callable[[], object]] = []
        self._release = weakref.finalize(self, _delete, session, graph, self._ends)
        self._release.atexit = False  # the end of the process releases everything anyway

    def run(
        self, feeds: Sequence[Output], arrays: Sequence[Array], fetches: Sequence[Output]
    ) -> list[Array]:
        """Calls a `SessionFunction` once."""
        return SessionFunction(self, feeds, fetches)(arrays, 0)

    def function(
        self, feeds: Sequence[str], fetches: Sequence[str], *, follows_shapes: bool = False
    ) -> "SessionFunction":
        """A function of tensors by name, e.g. `serving_default_x:0`.

        `follows_shapes` says that its cost depends only on the dimensions of its inputs (`costs`).
        Raises InvalidArgument for a name that is not in the graph.
        """
        with self.running():  # keeps the graph alive, too
            outputs = [output_of(self.graph, name) for name in fetches]
            stops = None
            if self.may_wait and self._stops < _MOST_STOPS:
                self._stops += 1
                stops = Stops(self.graph, outputs, self._places)
            return SessionFunction(
                self,
                [output_of(self.graph, name) for name in feeds],
                outputs,
                stops,
                follows_shapes=follows_shapes,
            )

    def has(self, tensor_name: str) -> bool:
        """Whether the graph has the operation of a tensor."""
        with self.running():
            operation = tensor_name.partition(":")[0].encode()
            return bool(library().TF_GraphOperationByName(self.graph, operation))

    @contextmanager
    def running(self) -> Iterator[int]:
        """The session's pointer, valid inside the block; raises FailedPrecondition when closed."""
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

    def at_end(self, call: Callable[[], object]) -> None:
        """Registers a function to call once everything has been released."""
        self._ends.append(call)

    def close(self) -> None:
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._running == 0)
        self._release()
        trim_memory()


@dataclass(frozen=True, slots=True)
class _Ends:
    """The feeds or the fetches of a function, as a C array, and how many there are."""

    outputs: "ctypes.Array[Output]"
    count: int


def _ends(outputs: Sequence[Output]) -> _Ends:
    return _Ends((Output * len(outputs))(*outputs), len(outputs))


class SessionFunction:
    """Runs a graph from feeds to fetches, with all look-ups done beforehand.

    A run that has proved quick stays on the caller's thread, because handing a small graph to
    TensorFlow's threads and back takes longer than computing it. Such a run has no timeout and
    needs none: no values can make it loop or wait.
    """

    def __init__(
        self,
        session: Session,
        feeds: Sequence[Output],
        fetches: Sequence[Output],
        stops: Stops | None = None,
        *,
        follows_shapes: bool = False,
    ) -> None:
        self._session = session
        self._stops = stops
        self._feeds = _ends(feeds)
        self._stoppable_feeds = _ends([*feeds, stops.place]) if stops else self._feeds
        self._fetches = _ends(fetches)
        self._quickness = Quickness(follows_shapes=follows_shapes)

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        """Whether a run of these inputs takes less time than handing it to another thread."""
        return self._quickness.covers(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        """Arrays in the order of the fetches, for arrays in the order of the feeds.

        Raises DeadlineExceeded after `timeout_ms` (0: no bound), and whatever the graph raises.
        """
        tensors: list[int] = []
        fetches = (c_void_p * self._fetches.count)()
        try:
            for _, array in zip(range(self._feeds.count), inputs, strict=True):
                tensors.append(new_tensor(array))
            options = run_options(timeout_ms, in_caller_thread=self.is_quick(inputs))
            start = perf_counter()
            self._run(tensors, fetches, options, timeout_ms)
            self._quickness.record(inputs, perf_counter() - start)
            return [array_of(tensor) for tensor in fetches if tensor]
        finally:
            delete = library().TF_DeleteTensor
            for tensor in (*tensors, *fetches):
                if tensor:
                    delete(tensor)

    def _run(self, tensors: list[int], fetches: _Tensors, options: Buffer, timeout_ms: int) -> None:
        with self._session.running() as session:
            if self._stops is None:
                self._run_in(session, self._feeds, tensors, fetches, options)
                return
            try:
                with self._stops.taken(session, timeout_ms) as place:
                    tensors.append(new_tensor(np.array(place, np.int32)))
                    ends = self._stoppable_feeds
                    self._run_in(session, ends, tensors, fetches, options, self._stops.targets)
            except Cancelled as error:
                if not self._stops.failed_by_another(error):
                    raise
                if not self._is_repeatable():
                    raise Unknown(_UNTOLD) from error
                self._run_in(session, self._feeds, tensors[:-1], fetches, options)

    def _is_repeatable(self) -> bool:
        """Whether a second run would have no lasting effect."""
        from lambda_serving.servables.tensorflow_c.repeatable import (
            are_repeatable,  # few failures need it
        )

        return are_repeatable(self._session.graph, self._fetches.outputs)

    def _run_in(
        self,
        session: int,
        feeds: _Ends,
        tensors: Sequence[int],
        fetches: _Tensors,
        options: Buffer,
        targets: _Tensors | None = None,
    ) -> None:
        with status() as st:
            library().TF_SessionRun(
                session,
                options,
                feeds.outputs,
                (c_void_p * feeds.count)(*tensors),
                feeds.count,
                self._fetches.outputs,
                fetches,
                self._fetches.count,
                targets,
                0 if targets is None else len(targets),
                None,
                st,
            )


def output_of(graph: int, tensor_name: str) -> Output:
    """The output that a tensor's name, `operation:index`, stands for.

    Raises InvalidArgument for a name that is not in the graph.
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
    """The operation called `name`; raises InvalidArgument if the graph has none."""
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


def _delete(session: int, graph: int, ends: Sequence[Callable[[], object]]) -> None:
    lib = library()
    with status() as st:
        lib.TF_CloseSession(session, st)
    with status() as st:
        lib.TF_DeleteSession(session, st)
    lib.TF_DeleteGraph(graph)
    for end in ends:
        end()


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
