"""How runs prove that later ones are quick."""

import numpy as np
import pytest

from lambda_serving.dtypes import Array
from lambda_serving.servables.quick_runs import Quickness

_QUICK, _SLOWER, _SLOW = 0.0005, 0.005, 0.05


def _of(*shape: int) -> list[Array]:
    return [np.zeros(shape, np.float32)]


def _proved(*inputs: list[Array]) -> Quickness:
    quickness = Quickness(follows_shapes=True)
    for each in inputs:
        for _ in range(3):
            quickness.record(each, _QUICK)
    return quickness


def test_quick_once_three_runs_of_the_size_were() -> None:
    quickness = Quickness(follows_shapes=True)
    found = []
    for seconds in (_QUICK, _QUICK, _SLOWER, _QUICK, _QUICK, _QUICK):
        found.append(quickness.covers(_of(4, 4)))
        quickness.record(_of(4, 4), seconds)
    assert (found, quickness.covers(_of(4, 4))) == ([False] * 6, True)


def test_never_quick_if_its_cost_does_not_follow_shapes() -> None:
    quickness = Quickness(follows_shapes=False)
    for _ in range(100):
        quickness.record(_of(1), _QUICK)
    assert not quickness.covers(_of(1))


@pytest.mark.parametrize(
    ("inputs", "covered"),
    [
        (_of(8, 4), True),
        (_of(1, 4), True),
        (_of(0, 0), True),
        (_of(9, 4), False),
        (_of(4, 8), False),  # as many elements, but a product of two sides may be larger
        (_of(32), False),
        (_of(2, 4, 4), False),
    ],
)
def test_input_at_most_as_large_in_each_dimension_is_quick(
    inputs: list[Array],
    covered: bool,  # noqa: FBT001 - as pytest passes it
) -> None:
    assert _proved(_of(8, 4)).covers(inputs) == covered


def test_strings_count_by_their_bytes() -> None:
    def texts(*texts: bytes) -> list[Array]:
        return [np.array(texts, object)]

    quickness = _proved(texts(b"abc", b"defg"))
    assert quickness.covers(texts(b"", b"abcdefg"))
    assert not quickness.covers(texts(b"", b"abcdefgh"))
    assert not quickness.covers(texts(b"", b"", b""))


def test_slow_run_takes_back_what_made_it_look_quick_and_no_more() -> None:
    quickness = _proved(_of(8, 1), _of(1, 8))
    quickness.record(_of(4, 1), _SLOWER)
    assert quickness.covers(_of(8, 1))
    quickness.record(_of(4, 1), _SLOW)
    assert not quickness.covers(_of(4, 1))
    assert quickness.covers(_of(1, 8))
    for _ in range(3):
        quickness.record(_of(4, 1), _QUICK)
    assert quickness.covers(_of(4, 1))
    assert not quickness.covers(_of(8, 1))


def test_many_sizes_take_no_more_room_than_some() -> None:
    sizes = [_of(i, 1000 - i) for i in range(1, 1000)]
    quickness = _proved(*sizes)
    assert sum(map(quickness.covers, sizes)) <= 8
    for each in sizes:
        quickness.record(each, _QUICK)
    quickness.record(_of(2000, 1), _QUICK)
    assert quickness.covers(sizes[-1])
