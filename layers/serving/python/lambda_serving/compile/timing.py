"""Measures which of two servables is quicker.

Machines are never quite idle, so runs of the two alternate: what slows one slows the other too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from lambda_serving.dtypes import Array
from lambda_serving.servables.servable import Servable

__all__ = ["USUAL_RACE", "Pair", "Race", "Timing", "is_slower", "measure"]

_START_SECONDS = 5.0
_LEAST_RUNS, _RUN_SECONDS = 5, 1.0
_NOISE = 1.1
_MOST_PAIRS = 0.65
_LEAST_START, _LEAST_WARM = 3.0, 0.02  # milliseconds


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians in milliseconds, and the fraction of pairs of runs in which the second was slower."""

    before: float
    after: float
    slower: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of loading, of the first answer, of both together, and of later answers."""

    load: Pair
    first: Pair
    start: Pair
    warm: Pair


def is_slower(timing: Timing) -> bool:
    """Whether the second servable is slower, beyond noise, at startup or later."""
    return _is_slower(timing.start, _LEAST_START) or _is_slower(timing.warm, _LEAST_WARM)


def _is_slower(pair: Pair, least: float) -> bool:
    return (
        pair.after > _NOISE * pair.before
        and pair.after - pair.before > least
        and pair.slower > _MOST_PAIRS
    )


@dataclass(frozen=True, slots=True)
class Race:
    """How two servables are timed: the most starts and runs of each, and what counts as slower."""

    starts: int = 3
    runs: int = 200
    slower: Callable[[Timing], bool] = is_slower


USUAL_RACE = Race()
Load = Callable[[], Servable]
_Times = tuple[float, float]


def measure(
    loads: tuple[Load, Load],
    loaded: tuple[Servable, Servable],
    name: str,
    inputs: Mapping[str, Array],
    race: Race,
) -> Timing:
    """Times two servables on one input of the signature `name`, which both answer.

    `loads` loads each of them afresh, to time starts; `loaded` have answered this input before.
    """
    starts: list[tuple[_Times, _Times]] = []
    end = perf_counter() + _START_SECONDS
    while len(starts) < race.starts and (not starts or perf_counter() < end):
        starts.append((_start(loads[0], name, inputs), _start(loads[1], name, inputs)))
    runs: list[_Times] = []
    end = perf_counter() + _RUN_SECONDS
    while len(runs) < _LEAST_RUNS or (len(runs) < race.runs and perf_counter() < end):
        runs.append((_run(loaded[0], name, inputs), _run(loaded[1], name, inputs)))
    return Timing(
        load=_pair([(one[0], other[0]) for one, other in starts]),
        first=_pair([(one[1], other[1]) for one, other in starts]),
        start=_pair([(sum(one), sum(other)) for one, other in starts]),
        warm=_pair(runs),
    )


def _start(load: Load, name: str, inputs: Mapping[str, Array]) -> _Times:
    """Milliseconds to load, and to answer once."""
    start = perf_counter()
    with load() as servable:
        loaded = perf_counter()
        return 1000 * (loaded - start), _run(servable, name, inputs)


def _run(servable: Servable, name: str, inputs: Mapping[str, Array]) -> float:
    start = perf_counter()
    servable.run(name, inputs)
    return 1000 * (perf_counter() - start)


def _pair(times: Sequence[_Times]) -> Pair:
    before, after = zip(*times, strict=True)
    slower = sum(later > earlier for earlier, later in times) / len(times)
    return Pair(round(median(before), 3), round(median(after), 3), round(slower, 2))
