"""The threads that run the batches of several owners."""

import threading
from time import monotonic

import numpy as np

from lambda_serving.batching import BatchingParameters
from lambda_serving.batching.queue import Batch
from lambda_serving.batching.scheduler import Scheduler
from support.held_runs import SECONDS


def test_batch_that_does_not_end_keeps_only_its_own_model_waiting() -> None:
    released, ran, done = threading.Event(), list[str](), threading.Event()

    def endless(_: Batch) -> None:
        assert released.wait(SECONDS)
        ran.append("endless")

    def ends(_: Batch) -> None:
        ran.append("other")
        done.set()

    scheduler = Scheduler(1, "batches", monotonic)
    parameters = BatchingParameters(num_batch_threads=1, max_batch_size=1)
    lanes = [scheduler.lane(parameters, endless, "m") for _ in range(2)]
    lanes.append(scheduler.lane(parameters, ends, "n"))
    for lane in lanes:
        scheduler.put(lane, [np.zeros(1)], "kind", None)
    assert done.wait(SECONDS)
    assert ran == ["other"]
    released.set()
    for lane in lanes:
        scheduler.close_lane(lane)
    scheduler.close()
    assert ran == ["other", "endless", "endless"]
