"""Predictions as an event loop carries them out: what it does itself, and what a thread does.

The one place that decides it, for every protocol. A loop that computes answers nobody meanwhile:
it only does what is sure to be quick, which is to read a small request, to run a graph that has
proved quick for inputs like these, and to write a small answer.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from lambda_serving.api.prediction_threads import Deadline, Gone, Threads, first
from lambda_serving.call_record import CallRecord
from lambda_serving.core.basic_manager import Loaded
from lambda_serving.dtypes import Array
from lambda_serving.servables.inference import Run

__all__ = ["Prediction"]

_Result = TypeVar("_Result")
_Other = TypeVar("_Other")
_SMALL_OUTPUT = 4 * 1024  # values, or so many times eight bytes of strings


@dataclass(frozen=True, slots=True)
class Prediction(Generic[_Result]):
    """A request to be answered in `threads`, or where there are none in the caller's thread.

    `prepare` reads it; `small` says that this takes no time worth a thread. `joins` says that runs
    may be joined with others. `gone` returns when the client has gone away.
    """

    model: str
    prepare: Callable[[], tuple[Loaded, Run[_Result]]]
    deadline: Deadline
    record: CallRecord
    threads: Threads | None
    small: bool
    joins: bool = False
    gone: Gone | None = None

    async def answer(self) -> _Result:
        """The answer; raises what preparing and running raise, and what `Threads.call` does."""
        if not self.small and not self.joins:
            return await self._call(self._whole)
        loaded, run = await self._call(self.prepare, here=self.small)
        servable, signature = loaded.servable, run.signature
        if self.joins:
            timeout_ms = self.deadline.left_ms()
            future = servable.submit(signature.name, run.inputs, timeout_ms=timeout_ms)
            if future is not None:
                arrays = future.result() if future.done() else await self._joined(future)
                return await self._conclude(run, signature.named(arrays))
        if not (self.small and servable.is_quick(signature.name, run.inputs, only=run.only)):
            return await self._call(partial(self._perform, loaded, run))
        outputs = servable.run(signature.name, run.inputs, only=run.only)
        return await self._conclude(run, outputs)

    async def _joined(self, future: Future[list[Array]]) -> Sequence[Array]:
        outcome = asyncio.wrap_future(future)
        try:
            return await first(outcome, self.deadline, self.gone)
        except BaseException:
            outcome.cancel()
            raise

    async def _conclude(self, run: Run[_Result], outputs: Mapping[str, Array]) -> _Result:
        self.record.ran(outputs)
        return await self._call(partial(run.conclude, outputs), here=_are_small(outputs))

    async def _call(self, work: Callable[[], _Other], *, here: bool = False) -> _Other:
        if here or self.threads is None:
            return work()
        return await self.threads.call(self.model, work, self.deadline, self.gone)

    def _whole(self) -> _Result:
        return self._perform(*self.prepare())

    def _perform(self, loaded: Loaded, run: Run[_Result]) -> _Result:
        return run.perform(loaded.servable, self.deadline.left_ms(), self.record)


def _are_small(outputs: Mapping[str, Array]) -> bool:
    """Whether to write them takes no time worth a thread."""
    values = 0
    for array in outputs.values():
        values += array.size
        if array.dtype.hasobject and values <= _SMALL_OUTPUT:
            values += sum(map(len, array.flat)) // 8
    return values <= _SMALL_OUTPUT
