"""Joined runs of a function that waits until a test releases it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from lambda_serving.batching import Batcher, BatchingParameters, Report
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.servables.servable import Servable, Signature, TensorSpec

__all__ = [
    "SECONDS",
    "Clock",
    "Compute",
    "Held",
    "Setup",
    "answer",
    "busy",
    "double",
    "only",
    "positive",
    "signature",
    "total",
    "twice",
]

SECONDS = 300
Compute = Callable[[Array], Array]


class Held:
    """A function of one input and one output whose first run lasts until `release`."""

    def __init__(self, compute: Compute, *, is_quick: bool = False) -> None:
        self._is_quick = is_quick
        self.calls: list[tuple[Array, int]] = []
        self._compute = compute
        self._started = threading.Event()
        self._released = threading.Event()

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        (x,) = inputs
        self.calls.append((x, timeout_ms))
        self._started.set()
        assert self._released.wait(SECONDS)
        return [self._compute(x)]

    def is_quick(self, _: Sequence[Array]) -> bool:
        return self._is_quick

    @property
    def sizes(self) -> list[int]:
        return [len(x) for x, _ in self.calls]

    def wait_until_started(self) -> None:
        assert self._started.wait(SECONDS)

    def release(self) -> None:
        self._released.set()


class Clock:
    """The clock of this machine, and `ahead` of it when a test says so."""

    ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


def double(x: Array) -> Array:
    return x + x


def positive(x: Array) -> Array:
    if (x < 0).any():
        raise InvalidArgument("positive numbers only")
    return x + x


def total(x: Array) -> Array:
    return np.asarray(x.sum())


def twice(x: Array) -> Array:
    return np.concatenate([x, x])


def signature(
    shape: tuple[int | None, ...] | None, output: tuple[int | None, ...] | None
) -> Signature:
    return Signature(
        "serving_default",
        inputs={"x": TensorSpec(DType.FLOAT, shape, "x:0")},
        outputs={"y": TensorSpec(DType.FLOAT, output, "y:0")},
        method_name="",
        definition=b"",
        defaults={},
    )


class Setup:
    """A servable of one function, its runs joined by one thread, which is kept busy at first."""

    def __init__(self, batcher: Batcher, function: Held, reports: list[Report]) -> None:
        self.function = function
        self.reports = reports
        servable = Servable(
            {"serving_default": signature(None, None)},
            {"serving_default": function},
            definitions={},
            close=lambda: None,
        )
        self.servable = batcher.joined(servable, Path())

    def submit(self, x: object, timeout_ms: int = 0) -> "Future[list[Array]]":
        inputs = {"x": np.asarray(x, getattr(x, "dtype", np.float32))}
        future = self.servable.submit("", inputs, timeout_ms=timeout_ms)
        assert future
        return future


@contextmanager
def busy(
    compute: Compute = double, *, clock: Callable[[], float] = monotonic, **parameters: object
) -> Iterator[Setup]:
    """Requests submitted inside wait for `release`, behind one row that runs.

    Batches are as large as they can be, because their timeout has always passed.
    """
    reports: list[Report] = []
    wanted: dict[str, Any] = {"num_batch_threads": 1, "batch_timeout_micros": 1, **parameters}
    known = BatchingParameters(**wanted)
    with Batcher(known, report=reports.append, clock=clock) as batcher:
        setup = Setup(batcher, Held(compute), reports)
        first = setup.submit([[7.0]])
        setup.function.wait_until_started()
        try:
            yield setup
        finally:
            setup.function.release()
            first.exception(SECONDS)
            setup.servable.close()


def only(future: "Future[list[Array]]") -> Array:
    (array,) = future.result(SECONDS)
    return array


def answer(future: "Future[list[Array]]") -> object:
    return only(future).tolist()
