"""Requests that are larger than a batch."""

import numpy as np
import pytest

from lambda_serving.dtypes import Array
from lambda_serving.errors import (
    InvalidArgument,
)
from support.held_runs import SECONDS, answer, busy, only, positive, total


def _as_wide_as_largest(x: Array) -> Array:
    return np.zeros((len(x), int(x.max())), np.float32)


def test_large_request_is_split_and_put_together_again() -> None:
    with busy(
        max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=4
    ) as setup:
        small, large = setup.submit([0.0]), setup.submit([float(i) for i in range(9)])
        setup.function.release()
        assert answer(small) == [0.0]
        assert answer(large) == [2.0 * i for i in range(9)]
    assert setup.function.sizes == [1, 4, 4, 2]  # what fits joins the small one


def test_split_request_fails_once_with_the_error_of_its_part() -> None:
    with busy(
        positive, max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=2
    ) as setup:
        future = setup.submit([1.0, 2.0, 3.0, -4.0, 5.0])
        setup.function.release()
        with pytest.raises(InvalidArgument, match="positive numbers only"):
            future.result(SECONDS)


def test_split_request_without_a_row_each_is_run_whole() -> None:
    with busy(
        total, max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=2
    ) as setup:
        future = setup.submit([1.0, 2.0, 3.0])
        setup.function.release()
        assert answer(future) == 6.0


def test_split_request_whose_parts_have_rows_of_different_sizes_is_run_whole() -> None:
    """As it would be alone: such rows are as wide as the widest of their request."""
    with busy(
        _as_wide_as_largest,
        max_batch_size=9,
        enable_large_batch_splitting=True,
        max_execution_batch_size=2,
    ) as setup:
        future = setup.submit([1.0, 2.0, 3.0], timeout_ms=60_000)
        setup.function.release()
        assert only(future).shape == (3, 3)
    x, timeout_ms = setup.function.calls[-1]
    assert (len(x), 0 < timeout_ms <= 60_000) == (3, True)
