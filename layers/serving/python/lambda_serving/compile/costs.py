"""Measures what each runtime costs, in processes of their own, runs of both in turn.

Times are processor time: it is what a function with one processor takes, and does not depend on
what else the machine does, so the same model is compiled for the same runtime each time.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from statistics import median

from lambda_serving.compile.apart import Apart, Served
from lambda_serving.compile.runtimes import ROWS, Cost
from lambda_serving.compile.samples import with_rows
from lambda_serving.compile.timing import Race
from lambda_serving.dtypes import Array
from lambda_serving.servables.servable import Signature

__all__ = ["measure_costs"]

_ROUNDS, _ROUND_SECONDS = 5, 0.3


def measure_costs(
    sides: Mapping[str, Served], signature: Signature, inputs: Mapping[str, Array], race: Race
) -> dict[str, Cost]:
    """The cost of each side, for inputs that all of them answer.

    Raises the ServingError of a side that fails, and NotCompilable if its process ends.
    """
    starts = {side: list[float]() for side in sides}
    for left in reversed(range(race.starts)):
        with ExitStack() as stack:
            running = dict[str, Apart]()
            for side, served in sides.items():
                running[side] = stack.enter_context(Apart(served))
                starts[side].append(running[side].start(signature.name, inputs))
            if not left:  # the last ones go on
                one, more = (_warm(running, signature, inputs, n, race) for n in (1, ROWS))
                peaks = {side: round(each.peak_mb(), 1) for side, each in running.items()}
    return {
        side: Cost(round(median(starts[side]), 1), one.get(side), more.get(side), peaks[side])
        for side in sides
    }


def _warm(
    running: Mapping[str, Apart],
    signature: Signature,
    inputs: Mapping[str, Array],
    rows: int,
    race: Race,
) -> dict[str, float]:
    """Milliseconds of a warm answer by side; none if the signature takes no such rows."""
    asked = with_rows(signature, inputs, rows)
    if asked is None:
        return {}
    rounds = min(_ROUNDS, race.runs)
    times = {side: list[float]() for side in running}
    for each in running.values():
        each.warm(signature.name, asked, 1, 0)  # the first run of a shape prepares
    for _ in range(rounds):
        for side, each in running.items():
            times[side] += each.warm(signature.name, asked, race.runs // rounds, _ROUND_SECONDS)
    return {side: round(median(found), 4) for side, found in times.items() if found}
