"""Which of two runtimes is better, and what is told of it."""

from dataclasses import replace

import pytest

from lambda_serving.compile.runtimes import LITERT, TENSORFLOW, Cost, choose

_TENSORFLOW = Cost(start_ms=700, warm_ms=0.3, warm_8_rows_ms=1.0, peak_mb=300)
_LITERT = Cost(start_ms=200, warm_ms=0.03, warm_8_rows_ms=0.2, peak_mb=45)


def _chosen(litert: Cost, tensorflow: Cost = _TENSORFLOW) -> tuple[str, str]:
    runtime = choose({TENSORFLOW: tensorflow, LITERT: litert})
    return runtime.name, runtime.reason


@pytest.mark.parametrize(
    ("litert", "reason"),
    [
        (
            _LITERT,
            (
                "it is better: start 200 ms instead of 700 ms, warm answer 0.03 ms instead of"
                " 0.3 ms, warm answer to 8 rows 0.2 ms instead of 1 ms, memory 45 MB instead of"
                " 300 MB"
            ),
        ),
        (
            replace(_TENSORFLOW, peak_mb=45),
            "it is better: memory 45 MB instead of 300 MB",
        ),
        (
            Cost(start_ms=200, warm_ms=0.32, warm_8_rows_ms=1.09, peak_mb=329),
            "it is better: start 200 ms instead of 700 ms",
        ),
        (
            Cost(start_ms=200, warm_ms=None, warm_8_rows_ms=None, peak_mb=300),
            "it is better: start 200 ms instead of 700 ms",
        ),
    ],
)
def test_litert_is_chosen_if_it_is_better_in_something(litert: Cost, reason: str) -> None:
    assert _chosen(litert) == (LITERT, reason)


@pytest.mark.parametrize(
    ("worse", "told"),
    [
        (replace(_LITERT, start_ms=771), "start 771 ms instead of 700 ms"),
        (replace(_LITERT, warm_ms=0.34), "warm answer 0.34 ms instead of 0.3 ms"),
        (replace(_LITERT, warm_8_rows_ms=1.5), "warm answer to 8 rows 1.5 ms instead of 1 ms"),
        (replace(_LITERT, peak_mb=340), "memory 340 MB instead of 300 MB"),
    ],
)
def test_tensorflow_stays_if_litert_is_worse_in_anything(worse: Cost, told: str) -> None:
    assert _chosen(worse) == (TENSORFLOW, f"LiteRT would be worse: {told}")


def test_tensorflow_stays_if_nothing_differs() -> None:
    assert _chosen(_TENSORFLOW) == (TENSORFLOW, "LiteRT would be no better")


def test_differences_of_a_machines_noise_do_not_count() -> None:
    """Small models answer in a hundredth of a millisecond, which varies by more than a tenth."""
    litert = replace(_LITERT, warm_ms=0.02)
    assert _chosen(litert, replace(_TENSORFLOW, warm_ms=0.005))[0] == LITERT
