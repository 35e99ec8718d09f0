"""A request that is split because of its size, put together again."""

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

    `alone` runs the whole request at once: for outputs that have not a row for each row of the
    inputs, or rows of different sizes.
    """
    whole: Future[Outputs] = Future()
    whole.set_running_or_notify_cancel()  # its parts run, whoever still waits for it
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
        fitting = all(
            arrays.fits(each, task.size) for each, task in zip(outputs, tasks, strict=True)
        )
        whole.set_result(_concatenated(outputs) if fitting else alone())
    except Exception as error:  # noqa: BLE001 - goes to the one whose it is
        whole.set_exception(error)


def _concatenated(parts: Sequence[Outputs]) -> Outputs:
    return [np.concatenate(each) for each in zip(*parts, strict=True)]
