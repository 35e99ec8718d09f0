"""The size of batches, learned from the cost of rows."""

from collections.abc import Callable
from typing import Any

import pytest

from lambda_serving.batching import BatchingParameters
from lambda_serving.batching.sizing import Sizing


class TestSizing:
    """Sizes by what rows cost: seconds of a run by its size."""

    @staticmethod
    def _limit(cost: Callable[[int], float], runs: int = 200, **parameters: Any) -> int:
        sizing = Sizing(BatchingParameters(**parameters))
        for _ in range(runs):
            sizing.record(sizing.limit, cost(sizing.limit))
        return sizing.limit

    def test_grows_to_the_largest_batch_when_more_rows_take_no_longer(self) -> None:
        assert self._limit(lambda _: 0.01, max_batch_size=100) == 100

    def test_stays_at_one_row_when_more_take_as_long_each(self) -> None:
        assert self._limit(lambda size: 0.01 * size) == 1

    def test_stops_where_rows_become_dearer(self) -> None:
        assert self._limit(lambda size: 0.01 + 0.001 * size + 0.0001 * size**2) == 8

    def test_grows_through_allowed_sizes(self) -> None:
        sizes = (4, 32, 128)
        assert self._limit(lambda _: 1, max_batch_size=128, allowed_batch_sizes=sizes) == 128

    def test_one_slow_run_decides_nothing(self) -> None:
        slow = iter([9.0] + [0.01] * 1000)
        assert self._limit(lambda _: next(slow), max_batch_size=64) == 64

    @pytest.mark.parametrize(("runs", "limit"), [(90, 1), (190, 8)])
    def test_learns_anew_after_a_while(self, runs: int, limit: int) -> None:
        early = iter([0.01 * size for size in (1, 1, 1, 1, 2, 2, 2, 2)])
        assert self._limit(lambda _: next(early, 0.01), runs, max_batch_size=8) == limit

    def test_larger_requests_count_too(self) -> None:
        sizing = Sizing(BatchingParameters(max_batch_size=8))
        for size in (1, 1, 1, 1, 2, 2, 2, 2, 8, 8, 8, 8, 3, 4, 3, 4):
            sizing.record(size, 0.01)
        assert sizing.limit == 8
