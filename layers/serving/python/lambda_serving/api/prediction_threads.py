"""The threads that predictions run in, shared among models so that no model can take them all.

An event loop hands work to them. It waits without a thread of its own for one to be free, for the
work to be done, and for the client to go away. Work that waits too long fails; it never hangs.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Self, TypeVar

from lambda_serving.errors import Cancelled, DeadlineExceeded
from lambda_serving.servables.cancellation import Cancellation

__all__ = ["Deadline", "Gone", "Threads", "first"]

_Result = TypeVar("_Result")
_WATCH_SECONDS = 0.1  # before anybody checks whether the client is still there
_GRACE_SECONDS = 1.0  # for a run to end by itself when its time is up
_STUCK_SECONDS = 10.0

Gone = Callable[[], Awaitable[object]]
"""Returns when the client has gone away."""


class Deadline(NamedTuple):
    """When an answer would be too late, in seconds of `time.monotonic`; None is never."""

    at: float | None

    @classmethod
    def after(cls, *timeouts_ms: int) -> Self:
        """The shortest of these timeouts from now; 0 or less is never."""
        bounds = [timeout_ms for timeout_ms in timeouts_ms if timeout_ms > 0]
        return cls(monotonic() + min(bounds) / 1000 if bounds else None)

    def left(self) -> float | None:
        """The seconds left, None for no bound."""
        return None if self.at is None else self.at - monotonic()

    def left_ms(self) -> int:
        """The milliseconds left, at least 1; 0 means no bound."""
        return 0 if self.at is None else max(1, round(1000 * (self.at - monotonic())))


class Threads:
    """`count` threads for one event loop; a model may take three quarters of them at once.

    Work that has not ended after `stuck_seconds` counts as stuck.
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
        """Waits until all work is done."""
        self._executor.shutdown()
        self._canceller.shutdown()

    async def call(
        self, model: str, work: Callable[[], _Result], deadline: Deadline, gone: Gone | None = None
    ) -> _Result:
        """What `work` for this model returns or raises, in a thread.

        Work is cancelled when the client has gone, when the deadline has passed, and when this
        coroutine is cancelled. Raises Cancelled or DeadlineExceeded then, without waiting for work
        that cannot be stopped: it keeps its thread.
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
        """The models that have held all threads they may take, or all threads, for too long.

        Any thread may call this.
        """
        before = monotonic() - self._stuck_seconds
        return {
            model
            for model, moved in self._moved.copy().items()
            if moved < before and (self._taken[model] >= self._share or not self._idle)
        }

    def all_stuck(self) -> bool:
        """Whether no thread has become free for too long; any thread may call this."""
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
            if turn.done() and not turn.cancelled():  # the turn came nevertheless
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
            outcome.exception()  # or asyncio logs it as never retrieved
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
        """The next in turn, for which a thread is taken; models take turns."""
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
    """The outcome; Cancelled or DeadlineExceeded if the client goes away or time runs out first."""
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
            raise Cancelled("The client went away before its answer was ready.")
        raise DeadlineExceeded("The time is up, and the run cannot be stopped")
    finally:
        if watch is not None:
            watch.cancel()
