"""A session: TensorFlow's runtime over one loaded graph."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lambda_serving.errors import FailedPrecondition
from lambda_serving.servables.tensorflow_c import memory
from lambda_serving.servables.tensorflow_c.library import library, status
from lambda_serving.servables.tensorflow_c.prototypes import Output
from lambda_serving.servables.tensorflow_c.stopping_runs import Places, Stops

__all__ = ["Session"]

_MOST_STOPS = 64  # functions of a session that can be stopped; each enlarges the graph


class Session:
    """TensorFlow's session with the graph and the restored variables of a SavedModel.

    Any number of threads may run parts of it. `close`, or dropping the last reference, waits for
    runs in flight and releases everything. `may_wait` says that a run may loop or wait.
    """

    def __init__(self, session: int, graph: int, *, may_wait: bool) -> None:
        self.graph = graph
        self._may_wait = may_wait
        self._session = session
        self._idle = threading.Condition()
        self._running = 0
        self._stops = 0
        self._places = Places()
        self._closed = False
        self._ends: list[Callable[[], object]] = []
        self._release = weakref.finalize(self, _delete, session, graph, self._ends)
        self._release.atexit = False  # the end of the process releases everything anyway

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

    def new_stops(self, fetches: Sequence[Output]) -> Stops | None:
        """A way to stop runs to these fetches; None if none can wait, or there are too many ways.

        Valid only inside a block of `running`.
        """
        if not self._may_wait or self._stops >= _MOST_STOPS:
            return None
        self._stops += 1
        return Stops(self.graph, fetches, self._places)

    def at_end(self, call: Callable[[], object]) -> None:
        """Registers a function to call once everything has been released."""
        self._ends.append(call)

    def close(self) -> None:
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._running == 0)
        self._release()
        memory.trim()


def _delete(session: int, graph: int, ends: Sequence[Callable[[], object]]) -> None:
    lib = library()
    with status() as st:
        lib.TF_CloseSession(session, st)
    with status() as st:
        lib.TF_DeleteSession(session, st)
    lib.TF_DeleteGraph(graph)
    for end in ends:
        end()
