"""Threads shared among models: turns, waiting times, cancellation."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from lambda_serving.api.prediction_threads import Deadline, Threads
from lambda_serving.errors import Cancelled, DeadlineExceeded
from lambda_serving.servables.cancellation import Cancellation

_SECONDS = 300
_NEVER = Deadline(None)


class _Held:
    """Work that lasts until `release`, or until it is cancelled."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = False
        self._released = threading.Event()

    def __call__(self) -> str:
        current = Cancellation.current()
        assert current
        self.started.set()
        with current.stopped_by(self._released.set):
            assert self._released.wait(_SECONDS)
        self.cancelled = current.cancelled
        return "done"

    def release(self) -> None:
        self._released.set()


class _Deaf(_Held):
    """Work that cannot be stopped."""

    def __call__(self) -> str:
        self.started.set()
        assert self._released.wait(_SECONDS)
        return "done"


@pytest.fixture
def pool() -> Iterator[Threads]:
    with Threads(4, "test") as threads:
        yield threads


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not condition():  # noqa: ASYNC110 - threads set no event of the loop
            await asyncio.sleep(0.001)


async def _begun(pool: Threads, works: list[_Held], model: str = "m") -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(pool.call(model, work, _NEVER)) for work in works]
    await _until(lambda: all(work.started.is_set() for work in works))
    return tasks


async def _ended(works: list[_Held], tasks: list[asyncio.Task[str]]) -> None:
    for work in works:
        work.release()
    assert await asyncio.gather(*tasks) == ["done"] * len(tasks)


def test_model_with_all_it_may_take_leaves_a_thread_to_the_others(pool: Threads) -> None:
    async def main() -> None:
        works = [_Held() for _ in range(3)]
        tasks = await _begun(pool, works)
        one_more = asyncio.create_task(pool.call("m", lambda: "late", _NEVER))
        assert await pool.call("other", lambda: "at once", _NEVER) == "at once"
        assert not one_more.done()
        await _ended(works, tasks)
        assert await one_more == "late"

    asyncio.run(main())


def test_models_come_in_turn(pool: Threads) -> None:
    order: list[str] = []

    async def main() -> None:
        works = [_Held() for _ in range(4)]
        tasks = await _begun(pool, works[:3]) + await _begun(pool, works[3:], "n")
        waiting = [
            asyncio.create_task(pool.call(name[0], partial(order.append, name), _NEVER))
            for name in ("x1", "x2", "x3", "y1", "z1")
        ]
        await asyncio.sleep(0)  # they have come, one after another
        works[0].release()
        await asyncio.gather(*waiting)
        await _ended(works, tasks)

    asyncio.run(main())
    assert order == ["x1", "y1", "z1", "x2", "x3"]


def test_call_that_waits_too_long_gets_the_reason(pool: Threads) -> None:
    async def main() -> str:
        works = [_Held() for _ in range(3)]
        tasks = await _begun(pool, works)
        with pytest.raises(DeadlineExceeded) as raised:
            await pool.call("m", lambda: "never", Deadline.after(20))
        await _ended(works, tasks)
        assert await pool.call("m", lambda: "again", _NEVER) == "again"
        return str(raised.value)

    assert asyncio.run(main()) == (
        "No thread came free in time: all that model m may take are at work (3 of 4)"
    )


async def _cut_off_by_its_task(pool: Threads, work: _Held) -> None:
    [task] = await _begun(pool, [work])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _cut_off_by_its_client(pool: Threads, work: _Held) -> None:
    async def gone() -> None:
        await _until(work.started.is_set)

    with pytest.raises(Cancelled):
        await pool.call("m", work, _NEVER, gone)


async def _cut_off_by_its_deadline(pool: Threads, work: _Held) -> None:
    with pytest.raises(DeadlineExceeded):
        await pool.call("m", work, Deadline.after(20))


_Cut = Callable[[Threads, _Held], Awaitable[None]]
_CUTS = [_cut_off_by_its_task, _cut_off_by_its_client, _cut_off_by_its_deadline]


@pytest.mark.parametrize("cut", _CUTS)
def test_work_that_nobody_waits_for_is_cancelled(pool: Threads, cut: _Cut) -> None:
    work = _Held()

    async def main() -> None:
        await cut(pool, work)
        await _until(lambda: work.cancelled)

    asyncio.run(main())


@pytest.mark.parametrize("cut", _CUTS)
def test_work_that_cannot_be_stopped_keeps_its_thread_and_nobody_waits(
    pool: Threads, cut: _Cut
) -> None:
    works = [_Deaf() for _ in range(3)]

    async def main() -> None:
        for work in works:
            await cut(pool, work)
        with pytest.raises(DeadlineExceeded):
            await pool.call("m", lambda: "no thread", Deadline.after(20))
        for work in works:
            work.release()
        assert await pool.call("m", lambda: "again", _NEVER) == "again"

    asyncio.run(main())


def test_client_that_stays_gets_what_the_work_returns_or_raises(pool: Threads) -> None:
    watched = []

    async def stays() -> None:
        watched.append(True)
        await asyncio.Event().wait()

    def fails() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        work = _Held()
        task = asyncio.create_task(pool.call("m", work, _NEVER, stays))
        await _until(work.started.is_set)
        await _until(lambda: watched)
        work.release()
        assert await task == "done"
        with pytest.raises(ZeroDivisionError):
            await pool.call("m", fails, _NEVER, stays)

    asyncio.run(main())


def test_call_that_gives_up_waiting_leaves_its_turn_to_the_next(pool: Threads) -> None:
    async def main() -> None:
        works = [_Held() for _ in range(3)]
        tasks = await _begun(pool, works)
        first, second = (
            asyncio.create_task(pool.call("m", lambda: "turn", _NEVER)) for _ in range(2)
        )
        await asyncio.sleep(0)
        first.cancel()
        await _ended(works, tasks)
        assert await second == "turn"
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [0, 3600])
def test_stuck_is_what_has_not_moved_for_long(seconds: float) -> None:
    async def main(pool: Threads) -> list[tuple[set[str], bool]]:
        works = [_Held() for _ in range(4)]
        tasks = await _begun(pool, works[:3])
        found = [(pool.stuck(), pool.all_stuck())]
        tasks += await _begun(pool, works[3:], "n")
        found.append((pool.stuck(), pool.all_stuck()))
        await _ended(works, tasks)
        return [*found, (pool.stuck(), pool.all_stuck())]

    with Threads(4, "test", stuck_seconds=seconds) as pool:
        found = asyncio.run(main(pool))
    stuck: list[tuple[set[str], bool]] = [({"m"}, False), ({"m", "n"}, True), (set(), False)]
    assert found == (stuck if seconds == 0 else [(set(), False)] * 3)


def test_deadline_is_told_in_milliseconds_with_0_for_none() -> None:
    assert [each.left_ms() for each in (_NEVER, Deadline.after(0), Deadline.after(-1))] == [0] * 3
    assert 0 < Deadline.after(10_000).left_ms() <= 10_000
    assert Deadline(0.0).left_ms() == 1
