"""Where the work of a call is done: in the event loop if it is sure to be quick, else in a thread.

The one place that decides this, for every protocol. While an event loop computes, it answers
nobody. So it only reads small requests, runs graphs that have proved quick for inputs like these,
and writes small answers.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from lambda_serving.api.prediction_threads import Deadline, Gone, Threads, first
from lambda_serving.call_record import CallRecord
from lambda_serving.core.basic_manager import Loaded
from lambda_serving.dtypes import Array
from lambda_serving.errors import NO_MEMORY, Internal, ResourceExhausted, ServingError
from lambda_serving.installation import broken
from lambda_serving.servables.inference import Run

__all__ = ["UNEXPECTED", "Place", "Prediction", "convert", "failure", "is_small"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_Other = TypeVar("_Other")
_SMALL = 32 * 1024  # bytes of a request or an answer
_SMALL_REPEATED = 8 * 1024  # bytes of a request with a part that counts for each of its examples
_SMALL_OUTPUT = 4 * 1024  # values, or so many times eight bytes of strings
UNEXPECTED = "The server failed on this request. Its log has the reason."


def is_small(size: int, *, repeats: bool = False) -> bool:
    """Whether reading or writing `size` bytes is too quick to be worth a thread.

    `repeats` says that one part of a request may be read again for each of its examples.
    """
    return size <= (_SMALL_REPEATED if repeats else _SMALL)


async def convert(threads: Threads | None, work: Callable[[], _Result], size: int) -> _Result:
    """Does `work` on `size` bytes in one of asyncio's threads; a few bytes in the event loop.

    Without `threads`, nobody else waits for the event loop, so all work is done in it.
    """
    if threads is None or is_small(size):
        return work()
    return await asyncio.to_thread(work)


def failure(error: Exception, what: str) -> ServingError:
    """The error that a client gets. An unforeseen one is logged, as a failure of `what`."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, MemoryError):
        return ResourceExhausted(NO_MEMORY)
    if isinstance(error, ImportError):
        _log.error("%s failed: %s", what, broken(error))
        return Internal(UNEXPECTED)
    _log.error("%s failed", what, exc_info=error)
    return Internal(UNEXPECTED)


class Place(NamedTuple):
    """The threads in which a call of `model` may work; None for the caller's own thread.

    `gone` returns when the client has gone away.
    """

    threads: Threads | None
    model: str
    deadline: Deadline
    gone: Gone | None = None

    async def do(self, work: Callable[[], _Other], *, here: bool = False) -> _Other:
        """What `work` returns or raises, and what `Threads.call` raises; `here` avoids threads."""
        if here or self.threads is None:
            return work()
        return await self.threads.call(self.model, work, self.deadline, self.gone)


class Prediction(NamedTuple, Generic[_Result]):
    """A request to be answered.

    `prepare` reads it; `small` says that this is too quick to be worth a thread. `joins` says that
    its run may be joined with others.
    """

    place: Place
    prepare: Callable[[], tuple[Loaded, Run[_Result]]]
    record: CallRecord
    small: bool
    joins: bool = False

    async def answer(self) -> _Result:
        """The answer; raises what preparing and running raise, and what `Threads.call` does."""
        do = self.place.do
        if not self.small and not self.joins:
            return await do(lambda: self._perform(*self.prepare()))
        loaded, run = await do(self.prepare, here=self.small)
        servable, signature = loaded.servable, run.signature
        if self.joins:
            timeout_ms = self.place.deadline.left_ms()
            future = servable.submit(signature.name, run.inputs, timeout_ms=timeout_ms)
            if future is not None:
                arrays = future.result() if future.done() else await self._joined(future)
                return await self._conclude(run, signature.named(arrays))
        if not (self.small and servable.is_quick(signature.name, run.inputs, only=run.only)):
            return await do(partial(self._perform, loaded, run))
        outputs = servable.run(signature.name, run.inputs, only=run.only)
        return await self._conclude(run, outputs)

    async def _joined(self, future: Future[list[Array]]) -> Sequence[Array]:
        outcome = asyncio.wrap_future(future)
        try:
            return await first(outcome, self.place.deadline, self.place.gone)
        except BaseException:
            outcome.cancel()
            raise

    async def _conclude(self, run: Run[_Result], outputs: Mapping[str, Array]) -> _Result:
        self.record.ran(outputs)
        return await self.place.do(partial(run.conclude, outputs), here=_are_small(outputs))

    def _perform(self, loaded: Loaded, run: Run[_Result]) -> _Result:
        return run.perform(loaded.servable, self.place.deadline.left_ms(), self.record)


def _are_small(outputs: Mapping[str, Array]) -> bool:
    """Whether writing these outputs is too quick to be worth a thread."""
    values = 0
    for array in outputs.values():
        values += array.size
        if array.dtype.hasobject and values <= _SMALL_OUTPUT:
            values += sum(map(len, array.flat)) // 8
    return values <= _SMALL_OUTPUT
