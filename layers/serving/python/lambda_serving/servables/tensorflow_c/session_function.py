"""Functions that run parts of a session's graph."""

from collections.abc import Sequence
from ctypes import c_void_p
from time import monotonic, perf_counter

import numpy as np

from lambda_serving.dtypes import Array
from lambda_serving.errors import Cancelled, Unknown
from lambda_serving.servables.cancellation import time_left
from lambda_serving.servables.quick_runs import Quickness
from lambda_serving.servables.tensorflow_c.library import library
from lambda_serving.servables.tensorflow_c.operations import output_of
from lambda_serving.servables.tensorflow_c.prototypes import Output
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.session_run import Pointers, ends_of, run, run_options
from lambda_serving.servables.tensorflow_c.stopping_runs import Stops
from lambda_serving.servables.tensorflow_c.tensors import array_of, new_tensor

__all__ = ["SessionFunction", "session_function"]

_UNTOLD = (
    "A node of a function or loop failed, and TensorFlow does not say which or why. Another run"
    " would say, but this graph has lasting effects, so it is not run twice"
)


def session_function(
    session: Session, feeds: Sequence[str], fetches: Sequence[str], *, follows_shapes: bool = False
) -> "SessionFunction":
    """A function of tensors by name, e.g. `serving_default_x:0`.

    `follows_shapes` says that its cost depends only on the dimensions of its inputs
    (`graph_costs`). Raises InvalidArgument for a name that is not in the graph.
    """
    with session.running():  # keeps the graph alive, too
        outputs = [output_of(session.graph, name) for name in fetches]
        stops = session.new_stops(outputs)
        inputs = [output_of(session.graph, name) for name in feeds]
        return SessionFunction(session, inputs, outputs, stops, follows_shapes=follows_shapes)


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
        self._feeds = ends_of(feeds)
        self._stoppable_feeds = ends_of([*feeds, stops.place]) if stops else self._feeds
        self._fetches = ends_of(fetches)
        self._quickness = Quickness(follows_shapes=follows_shapes)

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        """Whether a run of these inputs takes less time than handing it to another thread."""
        return self._quickness.covers(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        """Arrays in the order of the fetches, for arrays in the order of the feeds.

        Raises DeadlineExceeded after `timeout_ms` (0: no bound), and whatever the graph raises.
        """
        tensors: list[int] = []
        fetched = (c_void_p * len(self._fetches))()
        try:
            for _, array in zip(range(len(self._feeds)), inputs, strict=True):
                tensors.append(new_tensor(array))
            quick = self.is_quick(inputs)
            start = perf_counter()
            self._run(tensors, fetched, timeout_ms, in_caller_thread=quick)
            self._quickness.record(inputs, perf_counter() - start)
            return [array_of(tensor) for tensor in fetched if tensor]
        finally:
            delete = library().TF_DeleteTensor
            for tensor in (*tensors, *fetched):
                if tensor:
                    delete(tensor)

    def _run(
        self, tensors: list[int], fetched: Pointers, timeout_ms: int, *, in_caller_thread: bool
    ) -> None:
        """A wait for a place, a run and a second run have the timeout together."""
        feeds, to = self._feeds, (self._fetches, fetched)
        with self._session.running() as session:
            if self._stops is None:
                options = run_options(timeout_ms, in_caller_thread=in_caller_thread)
                run(session, feeds, tensors, *to, options=options)
                return
            start = monotonic()
            try:
                with self._stops.taken(session, timeout_ms) as place:
                    tensors.append(new_tensor(np.array(place, np.int32)))
                    left = time_left(timeout_ms, start)
                    options = run_options(left, in_caller_thread=in_caller_thread)
                    run(session, self._stoppable_feeds, tensors, *to, self._stops.targets, options)
            except Cancelled as error:
                if not self._stops.failed_by_another(error):
                    raise
                if not self._is_repeatable():
                    raise Unknown(_UNTOLD) from error
                left = time_left(timeout_ms, start)
                options = run_options(left, in_caller_thread=in_caller_thread)
                run(session, feeds, tensors[:-1], *to, options=options)

    def _is_repeatable(self) -> bool:
        """Whether a second run would have no lasting effect."""
        from lambda_serving.servables.tensorflow_c import repeatable  # few failures need it

        return repeatable.are_repeatable(self._session.graph, self._fetches)
