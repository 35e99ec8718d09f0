"""The two runtimes that a model may be compiled for, and the rule that chooses one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "AUTO",
    "CHOICES",
    "LITERT",
    "MEASURES",
    "ROWS",
    "TENSORFLOW",
    "Cost",
    "Measure",
    "Runtime",
    "choose",
]

AUTO, TENSORFLOW, LITERT = "auto", "tensorflow", "litert"
CHOICES = (AUTO, TENSORFLOW, LITERT)
ROWS = 8
"""The larger number of rows that warm answers are timed with."""
_NOISE = 1.1
_LARGE = 100  # numbers without decimals


@dataclass(frozen=True, slots=True)
class Cost:
    """What a runtime takes to serve a model, measured in a process of its own; medians.

    `start_ms` is the processor time from the start of the process to its first answer, `warm_ms`
    that of a later answer to one row, `warm_8_rows_ms` to eight, and `peak_mb` the most memory
    until then, in 1e6 bytes. Times are None where the model takes no such number of rows.
    """

    start_ms: float
    warm_ms: float | None
    warm_8_rows_ms: float | None
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime that a model was compiled for, why, and what each of them costs if measured.

    `plain_for_nan`: LiteRT runs inputs that hold NaN without XNNPACK, to answer as the export does.
    """

    name: str = TENSORFLOW
    reason: str = "it was asked for"
    costs: Mapping[str, Cost] = field(default_factory=dict)
    plain_for_nan: bool = False


class Measure(NamedTuple):
    """A figure of a cost, in its unit; differences up to `noise` do not count."""

    title: str
    unit: str
    of: Callable[[Cost], float | None]
    noise: float

    def told(self, cost: Cost) -> str:
        """The figure with its unit; empty if there is none."""
        value = self.of(cost)
        if value is None:
            return ""
        digits = ".0f" if value >= _LARGE else ".3g"
        return f"{value:{digits}} {self.unit}"


MEASURES = (
    Measure("start", "ms", lambda cost: cost.start_ms, 10.0),
    Measure("warm answer", "ms", lambda cost: cost.warm_ms, 0.02),
    Measure(f"warm answer to {ROWS} rows", "ms", lambda cost: cost.warm_8_rows_ms, 0.02),
    Measure("memory", "MB", lambda cost: cost.peak_mb, 1.0),
)


def choose(costs: Mapping[str, Cost]) -> Runtime:
    """The better runtime of the two that were measured.

    It is LiteRT if it is worse in nothing and better in something, of start, warm answers and
    memory, and TensorFlow otherwise. What differs by less than a tenth is equal.
    """
    worse, better = list[str](), list[str]()
    for measure in MEASURES:
        ours, theirs = measure.of(costs[LITERT]), measure.of(costs[TENSORFLOW])
        if ours is None or theirs is None or abs(ours - theirs) <= measure.noise:
            continue
        told = f"{measure.title} {measure.told(costs[LITERT])} instead of"
        told = f"{told} {measure.told(costs[TENSORFLOW])}"
        if ours > _NOISE * theirs:
            worse.append(told)
        elif theirs > _NOISE * ours:
            better.append(told)
    if worse:
        return Runtime(TENSORFLOW, f"LiteRT would be worse: {', '.join(worse)}", costs)
    if better:
        return Runtime(LITERT, f"it is better: {', '.join(better)}", costs)
    return Runtime(TENSORFLOW, "LiteRT would be no better", costs)
