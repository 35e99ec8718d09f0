"""How many rows are worth joining, learned from what rows cost in runs of each size.

A matrix product of 32 rows takes hardly longer than that of one, while a convolution over 32
images may leave the cache of a CPU and take longer than 32 over one. So a batch starts with what
one request has, and grows as long as that makes rows cheaper. (TensorFlow's
batching_util/adaptive_shared_batch_scheduler.h adapts the number of threads instead.)
"""

import threading
from bisect import bisect_left
from collections import deque

from lambda_serving.batching.parameters import BatchingParameters

__all__ = ["Sizing"]

_SAMPLES = 4
_WORTH = 0.9
_FIRST, _LONGEST = 100, 5000


class Sizing:
    """The most rows to run at once, `limit`, among sizes that double or the allowed ones.

    What else the machine does only adds to what a run takes, as does the first run of a size: the
    least of some runs is what counts. All of it is learned anew after 100 runs, 200, 400 and so
    on, as early runs are slow and things change.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        largest = parameters.batch_limit
        doubled = [2**i for i in range(largest.bit_length()) if 2**i < largest]
        self._sizes = parameters.allowed_batch_sizes or (*doubled, largest)
        self._lock = threading.Lock()
        self._period = _FIRST
        self._start()

    def _start(self) -> None:
        self._costs = [deque[float](maxlen=_SAMPLES) for _ in self._sizes]
        self._at = 0
        self._runs = 0

    @property
    def limit(self) -> int:
        return self._sizes[self._at]

    def record(self, size: int, seconds: float) -> None:
        """Learns what a run of `size` rows took."""
        level = min(bisect_left(self._sizes, size), len(self._sizes) - 1)
        with self._lock:
            self._costs[level].append(seconds / size)
            self._runs += 1
            if self._runs > self._period:
                self._period = min(2 * self._period, _LONGEST)
                self._start()
            elif level == self._at:
                self._at = self._next()

    def _next(self) -> int:
        """One size down if this one is not worth it, one up if the gain of this one was large."""
        below, here, above = (self._cost(self._at + step) for step in (-1, 0, 1))
        if here is None:
            return self._at
        if below is not None and here >= below:
            return self._at - 1
        if self._at + 1 == len(self._sizes) or (below is not None and here > _WORTH * below):
            return self._at
        return self._at + (above is None or above < _WORTH * here)

    def _cost(self, level: int) -> float | None:
        """Seconds a row, None where too little is known."""
        if not 0 <= level < len(self._sizes) or len(self._costs[level]) < _SAMPLES:
            return None
        return min(self._costs[level])
