"""The threads that predictions run in, shared among models so that none can take them all.

An event loop hands them work and waits without a thread: for one to be free, for the work to be
done, for the client to go away. What waits longer than it may is told so, never left waiting.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Self, TypeVar

from lambda_serving.errors import Cancelled, DeadlineExceeded
from lambda_serving.servables.cancellation import Cancellation

__all__ = ["Deadline", "Gone", "Threads", "first"]

_Result = TypeVar("_Result")
_WATCH_SECONDS = 0.1  # for which nobody asks whether the client is still there
_GRACE_SECONDS = 1.0  # in which a run whose time is up should have ended by itself
_STUCK_SECONDS = 10.0

Gone = Callable[[], Awaitable[object]]
"""Returns when the client has gone away."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When an answer comes too late, in seconds of `time.monotonic`; None is never."""

    at: float | None

    @classmethod
    def after(cls, *timeouts_ms: int) -> Self:
        """So many milliseconds from now, the fewest of them; 0 or less is never."""
        bounds = [timeout_ms for timeout_ms in timeouts_ms if timeout_ms > 0]
        return cls(monotonic() + min(bounds) / 1000 if bounds else None)

    def left(self) -> float | None:
        """The seconds that are left, None for no bound."""
        return None if self.at is None else self.at - monotonic()

    def left_ms(self) -> int:
        """What is left, at least 1; 0 stands for no bound."""
        return 0 if self.at is None else max(1, round(1000 * (self.at - monotonic())))


class Threads:
    """`count` threads for one event loop; a model may take three quarters of them at once.

    What has not ended after `stuck_seconds` counts as stuck.
    """

    def __init__(self, count: int, name: str, *, stuck_seconds: float = _STUCK_SECONDS) -> None:
        self._executor = ThreadPoolExecutor(count, name)
        self._canceller = ThreadPoolExecutor(1, f"{name}-cancel")
        self._count = self._idle = count
        self._stuck_seconds = stuck_seconds
        self._share = max(1, count * 3 // 4)
        self._taken = Counter[str]()
        self._moved = dict[str, float]()
        self._waiting = dict[str, deque[asyncio.Future[None]]]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Returns when all work is done."""
        self._executor.shutdown()
        self._canceller.shutdown()

    async def call(
        self,
        model: str,
        work: Callable[[], _Result],
        deadline: Deadline,
        gone: Gone | None = None,
    ) -> _Result:
        """What `work` for this model returns or raises, in a thread.

        It is cancelled when the client has gone, when this coroutine is, and when the deadline has
        passed. Raises Cancelled or DeadlineExceeded then, without waiting for what cannot be
        stopped: that keeps its thread.
        """
        await self._enter(model, deadline)
        cancellation = Cancellation()
        future = self._executor.submit(cancellation.run, work)
        outcome = asyncio.wrap_future(future)
        outcome.add_done_callback(partial(self._left, model))
        try:
            return await first(outcome, deadline, gone)
        except BaseException:
            if not future.done():
                self._canceller.submit(cancellation.cancel)
            raise

    def stuck(self) -> set[str]:
        """The models that have had all they may take, or all there are, for too long.

        Any thread may ask.
        """
        before = monotonic() - self._stuck_seconds
        return {
            model
            for model, moved in self._moved.copy().items()
            if moved < before and (self._taken[model] >= self._share or not self._idle)
        }

    def all_stuck(self) -> bool:
        """Whether no thread has come free for too long; any thread may ask."""
        moved = self._moved.copy().values()
        return not self._idle and max(moved, default=0) < monotonic() - self._stuck_seconds

    async def _enter(self, model: str, deadline: Deadline) -> None:
        if self._idle and self._taken[model] < self._share:
            self._take(model)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(model, deque()).append(turn)
        try:
            async with asyncio.timeout(deadline.left()):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # its turn came all the same
                self._leave(model)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(
                    f"No thread came free in time: all that model {model} may take are at work"
                    f" ({self._share} of {self._count})"
                ) from None
            raise

    def _take(self, model: str) -> None:
        self._idle -= 1
        self._taken[model] += 1
        self._moved[model] = monotonic()

    def _left(self, model: str, outcome: "asyncio.Future[object]") -> None:
        with suppress(BaseException):
            outcome.exception()  # or asyncio tells of it, if nobody waits any more
        self._leave(model)

    def _leave(self, model: str) -> None:
        self._idle += 1
        self._taken[model] -= 1
        self._moved[model] = monotonic()
        if not self._taken[model]:
            del self._taken[model], self._moved[model]
        while self._idle and (turn := self._next()):
            turn.set_result(None)

    def _next(self) -> "asyncio.Future[None] | None":
        """Whose turn it is, the models in turn; the thread is taken for it."""
        for model, turns in list(self._waiting.items()):
            while turns and turns[0].done():
                turns.popleft()
            del self._waiting[model]
            if not turns:
                continue
            if self._taken[model] >= self._share:
                self._waiting[model] = turns
                continue
            turn = turns.popleft()
            if turns:
                self._waiting[model] = turns  # behind the others
            self._take(model)
            return turn
        return None


async def first(
    outcome: "asyncio.Future[_Result]", deadline: Deadline, gone: Gone | None
) -> _Result:
    """The outcome, unless the client goes away or the time is up before.

    Raises Cancelled or DeadlineExceeded then.
    """
    if gone is not None:
        await asyncio.wait({outcome}, timeout=_WATCH_SECONDS)
    if outcome.done():
        return outcome.result()
    watch = None if gone is None else asyncio.ensure_future(gone())
    waited_for: set[asyncio.Future[Any]] = {outcome} if watch is None else {outcome, watch}
    left = deadline.left()
    most = None if left is None else left + _GRACE_SECONDS
    try:
        await asyncio.wait(waited_for, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        if outcome.done():
            return outcome.result()
        if watch is not None and watch.done():
            raise Cancelled("The client went away before its answer was there.")
        raise DeadlineExceeded("The time is up, and what runs cannot be cut off")
    finally:
        if watch is not None:
            watch.cancel()
