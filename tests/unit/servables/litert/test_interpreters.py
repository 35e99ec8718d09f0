"""Threads that share interpreters: none is used twice at once, none is lost, `close` waits."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lambda_serving.errors import DeadlineExceeded, FailedPrecondition
from lambda_serving.servables.litert.interpreters import Interpreters, Model

_THREADS, _RUNS, _COUNT = 6, 300, 2


class _Counted(Model):
    """Knows whether a thread has it, and is worn out now and then."""

    def __init__(self) -> None:
        self._said, self._uses, self._owner = "", 0, threading.Lock()

    def use(self) -> None:
        assert self._owner.acquire(blocking=False)
        time.sleep(0)  # another thread's turn
        self._uses += 1
        self._said = "x" * (20_000 if self._uses == 50 else 0)
        self._owner.release()


def test_threads_never_have_one_interpreter_at_once_and_get_all_their_runs() -> None:
    pool = Interpreters(_Counted(), _Counted, _COUNT)

    def work(_: int) -> int:
        for _ in range(_RUNS):
            model = pool.take(60_000)
            assert isinstance(model, _Counted)
            model.use()
            pool.give_back(model)
        return _RUNS

    with ThreadPoolExecutor(_THREADS) as threads:
        assert sum(threads.map(work, range(_THREADS))) == _THREADS * _RUNS
    taken = [pool.take(0) for _ in range(_COUNT)]  # none was lost
    with pytest.raises(DeadlineExceeded):
        pool.take(1)
    for model in taken:
        pool.give_back(model)
    pool.close()


def test_close_waits_for_what_is_taken_and_refuses_what_comes_later() -> None:
    pool = Interpreters(_Counted(), _Counted, 1)
    model, waiting = pool.take(0), threading.Event()

    def wait() -> None:
        waiting.set()
        with pytest.raises(FailedPrecondition, match="closed"):
            pool.take(60_000)

    with ThreadPoolExecutor(2) as threads:
        waiter = threads.submit(wait)
        assert waiting.wait(60)
        closing = threads.submit(pool.close)
        waiter.result(60)
        assert not closing.done()
        pool.give_back(model)
        closing.result(60)
    with pytest.raises(FailedPrecondition, match="closed"):
        pool.take(0)


def test_interpreter_that_could_not_be_made_is_made_by_the_next_run() -> None:
    outcomes = iter([MemoryError(), None])

    def make() -> Model:
        if (error := next(outcomes)) is not None:
            raise error
        return _Counted()

    pool = Interpreters(None, make, 1)
    with pytest.raises(MemoryError):
        pool.take(0)
    pool.give_back(pool.take(10_000))
    pool.close()
