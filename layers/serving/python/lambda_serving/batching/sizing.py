"""Learns how many rows are worth joining, from the cost of a row in runs of each size.

A matrix product of 32 rows takes hardly longer than one of a single row, but a convolution over 32
images may overflow a CPU's cache and take longer than 32 single ones. So batches start small, and
grow as long as that makes rows cheaper. (TensorFlow's
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
    """Chooses `limit`, the most rows to run at once, among powers of two or the allowed sizes.

    Other load and the first run of a size only make runs slower, so the quickest of a few runs
    counts. Learning restarts after 100, 200, 400 runs and so on, because early runs are slow and
    conditions change.
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
        """Learns from a run of `size` rows."""
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
        """Goes one size down if this one does not pay off, one up if it has gained much."""
        below, here, above = (self._cost(self._at + step) for step in (-1, 0, 1))
        if here is None:
            return self._at
        if below is not None and here >= below:
            return self._at - 1
        if self._at + 1 == len(self._sizes) or (below is not None and here > _WORTH * below):
            return self._at
        return self._at + (above is None or above < _WORTH * here)

    def _cost(self, level: int) -> float | None:
        """Seconds per row, None if too little is known."""
        if not 0 <= level < len(self._sizes) or len(self._costs[level]) < _SAMPLES:
            return None
        return min(self._costs[level])
