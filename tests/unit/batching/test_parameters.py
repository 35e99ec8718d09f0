"""Batching parameters in files, of a server and of a model."""

from pathlib import Path

import numpy as np
import pytest

from lambda_serving.batching import Batcher, BatchingParameters, read
from lambda_serving.errors import (
    InvalidArgument,
    NotFound,
)
from lambda_serving.servables.servable import Servable
from support.held_runs import Held, double, signature


def _written(folder: Path, text: str) -> Path:
    path = folder / "batching_params.pbtxt"
    path.write_text(text)
    return path


def test_parameters_are_read_from_text(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        num_batch_threads { value: 3 }
        thread_pool_name { value: "pool" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 64
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
        """,
    )
    assert read(path) == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=3,
        thread_pool_name="pool",
        allowed_batch_sizes=(8, 64),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=64,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max_batch_size: 3", "1:17 : "),
        ("\nmax_bach_size { value: 3 }", '2:1 : .*no field named "max_bach_size"'),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        (
            "allowed_batch_sizes: 8 allowed_batch_sizes: 8 max_batch_size { value: 8 }",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        (
            "allowed_batch_sizes: 8",
            "Last entry .* must match max_batch_size; last entry was 8; expected 1000",
        ),
        (
            "allowed_batch_sizes: 9 enable_large_batch_splitting { value: true }",
            "Last entry .* must be equal to max_execution_batch_size; last entry was 9; .* 1000",
        ),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2000 }",
            "max_execution_batch_size must be positive and at most max_batch_size 1000; was 2000",
        ),
    ],
)
def test_wrong_parameters_are_reported_with_their_file(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(InvalidArgument, match=f"The config file {path} is not valid: {reason}"):
        read(path)


def test_missing_parameters_file_is_reported() -> None:
    with pytest.raises(NotFound, match="/nowhere: No such file"):
        read(Path("/nowhere"))


def test_model_has_parameters_of_its_own_or_is_left_as_it_is(tmp_path: Path) -> None:
    _written(tmp_path, "max_batch_size { value: 2 }")
    with Batcher(BatchingParameters(num_batch_threads=1), per_model=True) as batcher:
        for folder, joins in ((tmp_path, True), (tmp_path / "none", False)):
            servable = Servable(
                {"serving_default": signature(None, None)},
                {"serving_default": (function := Held(double))},
                definitions={},
                close=lambda: None,
            )
            function.release()
            joined = batcher.joined(servable, folder)
            future = joined.submit("", {"x": np.zeros(1)})
            assert (future is not None) is joins
            joined.close()
