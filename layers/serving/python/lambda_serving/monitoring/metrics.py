"""Counters and histograms with labels, and their text as TensorFlow Serving's Prometheus page.

Names are paths like TensorFlow's `/tensorflow/serving/request_count`. A snapshot is plain JSON, so
that `text` can sum those of several processes:

    {"/a/counter": {"labels": ["model"], "points": [[["m"], 3]]},
     "/a/histogram": {"labels": [], "limits": [1, 2], "points": [[[], {"buckets": [0, 1, 0],
      "sum": 1.5}]]}}

A bucket counts the values below its limit and not below the previous limit, as TensorFlow's do;
one more bucket counts all larger values.
Source: util/prometheus_exporter.cc, tsl/lib/monitoring/sampler.cc.
"""

import re
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

__all__ = ["Metric", "Metrics", "Snapshot", "counters", "exponential", "text"]

Snapshot = dict[str, dict[str, Any]]
_NO_NAME = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True, eq=False)  # metrics are keys, and hashing the limits is slow
class Metric:
    """A counter or, with bucket limits, a histogram; each combination of labels has a point."""

    name: str
    labels: tuple[str, ...] = ()
    limits: tuple[float, ...] = ()


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """`count` bucket limits from `scale` on, each `growth` times the previous one."""
    return tuple(accumulate(range(count - 1), lambda limit, _: limit * growth, initial=scale))


class Metrics:
    """The values of `metrics` in this process; any thread may call the methods."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Metric, dict[tuple[str, ...], int]] = {}
        self._samples: dict[Metric, dict[tuple[str, ...], tuple[list[int], list[float]]]] = {}
        for metric in metrics:
            if metric.limits:
                self._samples[metric] = {}
            else:
                self._counts[metric] = {}

    def add(self, metric: Metric, *labels: str, amount: int = 1) -> None:
        """Increases a counter."""
        with self._lock:
            points = self._counts[metric]
            points[labels] = points.get(labels, 0) + amount

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Adds a value to a histogram."""
        bucket = bisect_right(metric.limits, value)
        with self._lock:
            points = self._samples[metric]
            if (point := points.get(labels)) is None:
                point = points[labels] = ([0] * (len(metric.limits) + 1), [0.0])
            buckets, total = point
            buckets[bucket] += 1
            total[0] += value

    def snapshot(self) -> Snapshot:
        """All current values."""
        with self._lock:
            counts: Snapshot = {
                metric.name: {
                    "labels": list(metric.labels),
                    "points": [[list(labels), count] for labels, count in points.items()],
                }
                for metric, points in self._counts.items()
            }
            samples: Snapshot = {
                metric.name: {
                    "labels": list(metric.labels),
                    "limits": list(metric.limits),
                    "points": [
                        [list(labels), {"buckets": list(buckets), "sum": total}]
                        for labels, (buckets, [total]) in points.items()
                    ],
                }
                for metric, points in self._samples.items()
            }
        return counts | samples


def text(snapshots: Sequence[Snapshot]) -> str:
    """The Prometheus page of the sum of some processes' snapshots."""
    lines: list[str] = []
    for name in sorted({name for snapshot in snapshots for name in snapshot}):
        found = [snapshot[name] for snapshot in snapshots if name in snapshot]
        labels, limits = found[0]["labels"], found[0].get("limits")
        lines += (
            _counter(_exported(name), labels, _summed_counts(found))
            if limits is None
            else _histogram(_exported(name), labels, limits, found)
        )
    return "\n".join(lines) + "\n"


def counters(snapshots: Iterable[Snapshot]) -> dict[str, int]:
    """The sum of each counter's points, by the counter's name."""
    sums: dict[str, int] = {}
    for name, metric in (item for snapshot in snapshots for item in snapshot.items()):
        if "limits" not in metric:
            sums[name] = sums.get(name, 0) + sum(count for _, count in metric["points"])
    return sums


def _counter(
    name: str, labels: Sequence[str], points: Mapping[tuple[str, ...], int]
) -> Iterator[str]:
    yield f"# TYPE {name} counter"
    for values, count in sorted(points.items()):
        yield f"{name}{{{_labelled(labels, values)}}} {count}"


def _histogram(
    name: str, labels: Sequence[str], limits: Sequence[float], found: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    yield f"# TYPE {name} histogram"
    ends = [*(f"{limit:g}" for limit in limits), "+Inf"]
    for values, (buckets, total) in sorted(_summed_samples(found).items()):
        label = _labelled(labels, values)
        comma = "," if label else ""
        for end, count in zip(ends, accumulate(buckets), strict=True):
            yield f'{name}_bucket{{{label}{comma}le="{end}"}} {count}'
        yield f"{name}_sum{{{label}}} {_number(total)}"
        yield f"{name}_count{{{label}}} {sum(buckets)}"


def _summed_counts(found: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], int]:
    points: dict[tuple[str, ...], int] = {}
    for values, count in (point for each in found for point in each["points"]):
        points[tuple(values)] = points.get(tuple(values), 0) + count
    return points


def _summed_samples(
    found: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, ...], tuple[list[int], float]]:
    points: dict[tuple[str, ...], tuple[list[int], float]] = {}
    for values, point in (point for each in found for point in each["points"]):
        key = tuple(values)
        buckets, total = points.get(key, ([0] * len(point["buckets"]), 0.0))
        both = [a + b for a, b in zip(buckets, point["buckets"], strict=True)]
        points[key] = (both, total + point["sum"])
    return points


def _exported(name: str) -> str:
    return _NO_NAME.sub(":", name)


def _labelled(labels: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(
        f'{label}="{value.translate(_ESCAPES)}"'
        for label, value in zip(labels, values, strict=True)
    )


def _number(value: float) -> str:
    """The value with all its digits; TensorFlow Serving rounds to six, so that rates jump."""
    return str(int(value)) if value.is_integer() else repr(value)
