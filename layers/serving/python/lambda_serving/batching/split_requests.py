"""Puts the parts of a request together that was split because of its size."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from lambda_serving.batching import arrays
from lambda_serving.batching.queue import Task
from lambda_serving.dtypes import Array

__all__ = ["together"]

Outputs = list[Array]


def together(tasks: Sequence[Task], alone: Callable[[], Outputs]) -> Future[Outputs]:
    """The outputs of a request, or the error of one of its parts, once all parts are done.

    `alone` runs the whole request at once; it is called if outputs lack a row for each row of the
    inputs, or if their rows have different shapes.
    """
    whole: Future[Outputs] = Future()
    whole.set_running_or_notify_cancel()  # cannot be cancelled: its parts run anyway
    lock, left = threading.Lock(), len(tasks)

    def done(_: Future[Outputs]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            _finish(whole, tasks, alone)

    for task in tasks:
        task.outputs.add_done_callback(done)
    return whole


def _finish(whole: Future[Outputs], tasks: Sequence[Task], alone: Callable[[], Outputs]) -> None:
    try:
        outputs = [task.outputs.result() for task in tasks]
        fit = all(arrays.fits(each, task.size) for each, task in zip(outputs, tasks, strict=True))
        whole.set_result(_concatenated(outputs) if fit and _alike(outputs) else alone())
    except Exception as error:  # noqa: BLE001 - passed on to the caller
        whole.set_exception(error)


def _alike(parts: Sequence[Outputs]) -> bool:
    """Whether the rows of each output have one shape."""
    return len({tuple(output.shape[1:] for output in outputs) for outputs in parts}) == 1


def _concatenated(parts: Sequence[Outputs]) -> Outputs:
    return [np.concatenate(each) for each in zip(*parts, strict=True)]
