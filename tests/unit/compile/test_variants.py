"""Which variants are tried, which one is chosen, and what counts as slower."""

import pytest

from lambda_serving.compile.timing import Pair, Timing, is_slower
from lambda_serving.compile.variants import (
    CONSTANTS,
    EIGEN,
    MAPPED,
    ONEDNN,
    Attempt,
    Variant,
    best,
    next_variant,
)

_SAME = Pair(10.0, 10.0, 0.5)


def _timing(warm: float) -> Timing:
    return Timing(_SAME, _SAME, _SAME, Pair(1.0, warm, 0.0 if warm < 1 else 1.0))


def _attempt(
    variant: Variant, warm: float = 1.0, *, problem: str = "", onednn: bool = False
) -> Attempt:
    return Attempt(
        variant, problem, problem == "slower", _timing(warm), has_onednn=onednn, has_files=True
    )


_FIRST = Variant(ONEDNN, MAPPED)


@pytest.mark.parametrize(
    ("tried", "then"),
    [
        ([], _FIRST),
        ([_attempt(_FIRST, 0.5, onednn=True)], None),
        ([_attempt(_FIRST, 0.95, onednn=True)], Variant(EIGEN, MAPPED)),
        ([_attempt(_FIRST, 0.5, onednn=True, problem="answers")], Variant(EIGEN, MAPPED)),
        ([_attempt(_FIRST, 0.95)], None),
        ([_attempt(_FIRST, problem="answers")], None),
        ([_attempt(_FIRST, 2.0, problem="slower")], Variant(ONEDNN, CONSTANTS)),
        (
            [
                _attempt(_FIRST, 2.0, problem="slower", onednn=True),
                _attempt(Variant(EIGEN), 2.0, problem="slower"),
            ],
            Variant(EIGEN, CONSTANTS),
        ),
        (
            [_attempt(_FIRST, 0.95, onednn=True), _attempt(Variant(EIGEN), 2.0, problem="slower")],
            None,
        ),
        ([Attempt(_FIRST, has_onednn=True)], None),
    ],
)
def test_variant_that_could_be_better_is_tried_next(
    tried: list[Attempt], then: Variant | None
) -> None:
    assert next_variant(tried) == then


def test_trying_ends() -> None:
    tried: list[Attempt] = []
    while variant := next_variant(tried):
        onednn = variant.kernels == ONEDNN
        tried.append(_attempt(variant, 2.0, problem="slower", onednn=onednn))
    assert len(tried) == 3
    assert best(tried) is None


def test_quickest_warm_answer_is_chosen_and_none_with_a_problem() -> None:
    slow, quick = _attempt(_FIRST, 0.95), _attempt(Variant(EIGEN), 0.8)
    assert best([slow, quick]) is quick
    assert best([slow, _attempt(Variant(EIGEN), 0.5, problem="answers")]) is slow


@pytest.mark.parametrize(
    ("start", "warm"),
    [(_SAME, Pair(0.28, 0.45, 0.98)), (Pair(10.0, 20.0, 1.0), Pair(1.0, 0.5, 0.0))],
)
def test_difference_beyond_noise_is_slower(start: Pair, warm: Pair) -> None:
    assert is_slower(Timing(_SAME, _SAME, start, warm))


@pytest.mark.parametrize(
    ("start", "warm"),
    [
        (_SAME, _SAME),
        (_SAME, Pair(0.28, 0.45, 0.5)),
        (_SAME, Pair(0.100, 0.115, 1.0)),
        (_SAME, Pair(100.0, 105.0, 0.9)),
        (Pair(3.0, 5.0, 1.0), _SAME),
    ],
)
def test_noise_is_not_slower(start: Pair, warm: Pair) -> None:
    assert not is_slower(Timing(_SAME, _SAME, start, warm))
