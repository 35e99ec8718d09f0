"""The result of a benchmark: our figure, and the peer's if there is one."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Self

import numpy as np

__all__ = ["Figure", "Row", "Unit"]


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

    The ratio says how many times faster we are, and `wanted` is the least it should be. For memory
    and requests the ratio is our share of the peer's, and `wanted` is the most it should be.
    """

    what: str
    unit: Unit
    ours: Figure
    peer: Figure | None = None
    wanted: float | None = None

    @classmethod
    def of(
        cls,
        what: str,
        unit: Unit,
        pairs: Iterable[tuple[float, float]],
        wanted: float | None = None,
        *,
        percent: float = 50,
    ) -> Self:
        """A row from pairs of samples, ours first: their median, or another percentile."""
        ours, peer = zip(*pairs, strict=True)
        return cls(what, unit, _figure(ours, percent), _figure(peer, percent), wanted)

    @classmethod
    def alone(cls, what: str, unit: Unit, samples: Sequence[float]) -> Self:
        """A row without a peer: the median of our samples."""
        return cls(what, unit, _figure(samples, 50))

    @property
    def is_share(self) -> bool:
        return self.unit in {Unit.MEGABYTES, Unit.REQUESTS}

    @property
    def ratio(self) -> float | None:
        if self.peer is None:
            return None
        if self.unit is Unit.MILLISECONDS:
            return self.peer.value / self.ours.value
        return self.ours.value / self.peer.value

    @property
    def reached(self) -> bool:
        if self.wanted is None or self.ratio is None:
            return True
        return self.ratio <= self.wanted if self.is_share else self.ratio >= self.wanted

    def document(self) -> dict[str, Any]:
        """The row in a form for JSON."""
        return {**asdict(self), "unit": self.unit.value, "ratio": self.ratio}


def _figure(samples: Sequence[float], percent: float) -> Figure:
    low, value, high = np.percentile(samples, [10, percent, 90])
    return Figure(float(value), float(low), float(high))
