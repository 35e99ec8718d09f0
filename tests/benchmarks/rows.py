"""The result of a benchmark: our figure, and a peer's if there is one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from math import inf
from typing import Any, Self

import numpy as np

__all__ = ["Figure", "Row", "Unit", "samples"]


class Unit(Enum):
    MILLISECONDS = "ms"
    MEGABYTES = "MB"
    RATE = "requests/s"
    ROWS = "rows/s"
    DOLLARS = "USD"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value, and the 10th and 90th percentiles of its samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    The ratio says how many times faster we are, and `wanted` is the least it should be. For memory,
    prices and requests the ratio is our share of the peer's, and `wanted` is the most it should be.
    Rows that differ in `beside`, the peer's name, are columns of one line.
    """

    what: str
    unit: Unit
    ours: Figure
    peer: Figure | None = None
    wanted: float | None = None
    beside: str = "peer"

    @classmethod
    def of(
        cls,
        what: str,
        unit: Unit,
        pairs: Iterable[tuple[float, float]],
        wanted: float | None = None,
        *,
        percent: float = 50,
        beside: str = "peer",
    ) -> Self:
        """A row from pairs of samples, ours first: their median, or another percentile."""
        ours, peer = zip(*pairs, strict=True)
        figures = _figure(ours, percent), _figure(peer, percent)
        return cls(what, unit, *figures, wanted, beside)

    @classmethod
    def each(
        cls,
        what: str,
        unit: Unit,
        sides: Mapping[str, Sequence[float]],
        wanted: Mapping[str, float] | None = None,
        *,
        percent: float = 50,
    ) -> list[Self]:
        """A row for `ours` beside each other side, from their samples; without others, ours alone.

        `wanted` are ratios by side.
        """
        wanted, ours = wanted or {}, sides["ours"]
        return [
            cls.of(
                what,
                unit,
                zip(ours, others, strict=True),
                wanted.get(side),
                percent=percent,
                beside=side,
            )
            for side, others in sides.items()
            if side != "ours"
        ] or [cls.alone(what, unit, ours)]

    @classmethod
    def alone(cls, what: str, unit: Unit, samples: Sequence[float]) -> Self:
        """A row without a peer: the median of our samples."""
        return cls(what, unit, _figure(samples, 50))

    @property
    def is_share(self) -> bool:
        return self.unit in {Unit.MEGABYTES, Unit.DOLLARS, Unit.REQUESTS}

    @property
    def ratio(self) -> float | None:
        if self.peer is None:
            return None
        above, below = self.ours.value, self.peer.value
        if self.unit is Unit.MILLISECONDS:
            above, below = below, above
        return above / below if below else inf  # a busy machine may answer nothing in a second

    @property
    def reached(self) -> bool:
        if self.wanted is None or self.ratio is None:
            return True
        return self.ratio <= self.wanted if self.is_share else self.ratio >= self.wanted

    def document(self) -> dict[str, Any]:
        """The row in a form for JSON."""
        return {**asdict(self), "unit": self.unit.value, "ratio": self.ratio}


def samples(rounds: Sequence[Mapping[str, Mapping[str, Any]]], key: str) -> dict[str, list[float]]:
    """The figure `key` of each side, from the reports of all sides in each round."""
    return {side: [each[side][key] for each in rounds] for side in rounds[0]}


def _figure(samples: Sequence[float], percent: float) -> Figure:
    low, value, high = np.percentile(samples, [10, percent, 90])
    return Figure(float(value), float(low), float(high))
