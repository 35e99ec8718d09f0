"""Answers compared: what passes, what differs, what cannot be told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lambda_serving.compile.verify import (
    TOLERANCES,
    Answers,
    Check,
    Differs,
    answers,
    any_late,
    check,
    in_time,
)
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DeadlineExceeded, InvalidArgument, NotFound
from lambda_serving.servables.servable import Servable, Signature, TensorSpec
from support.functions import Computed, servable_of

_Answer = Callable[[Array], Array]
_Make = Callable[[], _Answer]


def _servable(compute: _Answer) -> Servable:
    spec = TensorSpec(DType.FLOAT, None, "t:0")
    signature = Signature("f", {"x": spec}, {"y": spec}, "", b"", {})
    return servable_of(signature, function=Computed(lambda x: [compute(x)]))


def _check(wanted: _Answer, found: _Answer, *inputs: Any) -> Check:
    """Of functions that remember nothing."""
    return _check_made(lambda: wanted, lambda: found, *inputs)


def _check_made(wanted: _Make, found: _Make, *inputs: Any) -> Check:
    given = {"f": [{"x": np.asarray(each)} for each in inputs]}

    def answered(make: _Make) -> Answers:
        return answers(_servable(make()), given)

    return check(answered(wanted), answered(found), lambda: answered(wanted))["f"]


def _same(x: Array) -> Array:
    return x


def _raises(error: Exception) -> _Answer:
    def compute(_: Array) -> Array:
        raise error

    return compute


def test_equal_answers_pass_whatever_they_are() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    words = np.array([b"a", b""], object)
    result = _check(_same, lambda x: x.copy(), odd, words, [1, 2], [[True]], np.zeros((0, 2)))
    assert result == Check(compared=5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
def test_error_is_a_part_of_the_largest_value(dtype: Any) -> None:
    limit = TOLERANCES[DType.of(np.dtype(dtype))]
    x = np.array([1e-3, -4.0], dtype)
    within = _check(_same, lambda x: x + dtype(2 * limit), x)
    assert within.largest_error == pytest.approx(limit / 2, rel=0.2)
    with pytest.raises(Differs, match=r"signature f, output y: an error of .* is tolerated"):
        _check(_same, lambda x: x + dtype(8 * limit), x)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ([1, 2], [1, 3]),
        ([b"a"], [b"b"]),
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, np.inf], [1.0, -np.inf]),
        ([0.0], [1e-30]),
    ],
)
def test_other_values_differ(wanted: list[Any], got: list[Any]) -> None:
    kind = object if isinstance(wanted[0], bytes) else None
    with pytest.raises(Differs, match="an error of"):
        _check(lambda _: np.array(wanted, kind), lambda _: np.array(got, kind), 0)


@pytest.mark.parametrize("got", [np.zeros(2, np.float64), np.zeros((1, 2), np.float32)])
def test_other_dtype_or_shape_differs(got: Array) -> None:
    with pytest.raises(Differs, match=r"float32 of shape \(2,\) became float"):
        _check(lambda _: np.zeros(2, np.float32), lambda _: got, 0)


def test_errors_of_one_kind_are_alike_and_other_outcomes_differ() -> None:
    refuse = _raises(InvalidArgument("no"))
    assert _check(refuse, _raises(InvalidArgument("never")), 1, 2) == Check(refused=2, refusal="no")
    with pytest.raises(Differs, match="the error 'no' became the error 'gone'"):
        _check(refuse, _raises(NotFound("gone")), 1)
    with pytest.raises(Differs, match="the error 'no' became an answer"):
        _check(refuse, _same, 1)
    with pytest.raises(Differs, match="an answer became the error 'no'"):
        _check(_same, refuse, 1)


def test_output_that_is_never_the_same_is_compared_by_its_shape() -> None:
    random = np.random.default_rng(0)

    def throw(x: Array) -> Array:
        return np.asarray(random.random(x.shape))

    assert _check(throw, throw, [1, 2], [3]) == Check(compared=2, unstable=["y"])
    with pytest.raises(Differs, match="shape"):
        _check(throw, lambda _: throw(np.zeros(3)), [1, 2])


def _counter() -> _Answer:
    calls = iter(range(100))
    return lambda x: x + next(calls)


def _sequence() -> _Answer:
    random = np.random.default_rng(5)
    return lambda x: x + random.random()


@pytest.mark.parametrize("remembers", [_counter, _sequence])
def test_state_of_a_function_is_compared_call_by_call(remembers: _Make) -> None:
    assert _check_made(remembers, remembers, 1.0, 2.0) == Check(compared=2)
    with pytest.raises(Differs, match="an error of"):
        _check_made(remembers, lambda: _same, 1.0)
    with pytest.raises(Differs, match="an error of"):
        _check_made(lambda: _same, remembers, 1.0)


def test_input_that_takes_too_long_is_asked_once_and_left_out() -> None:
    asked = []

    def wait_for_infinite(x: Array) -> Array:
        asked.append(x.item())
        if np.isinf(x):
            raise DeadlineExceeded("late")
        return x

    given = {"f": [{"x": np.array(each)} for each in (1.0, np.inf, 2.0)]}
    found = answers(_servable(wait_for_infinite), given)
    assert asked == [1.0, np.inf, 2.0, 1.0, 2.0]
    assert any_late(found)
    left = in_time(given, found)
    assert [each["x"].item() for each in left["f"]] == [1.0, 2.0]
    assert not any_late(answers(_servable(wait_for_infinite), left))
