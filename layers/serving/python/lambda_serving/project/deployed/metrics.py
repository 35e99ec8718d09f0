"""What CloudWatch counted: requests, errors, latencies and cold starts of a deployed stack."""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from lambda_serving.monitoring.embedded_metrics import NAMESPACE
from lambda_serving.release.aws.clients import translate_errors

__all__ = ["ApiUse", "ModelUse", "Query", "Window", "names", "of_api", "of_models", "read"]

_Key = TypeVar("_Key", bound=Hashable)
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_BY_VERSION = {"model", "service", "stack", "version"}
_QUERIES = 500  # that CloudWatch takes at once
_DAY = 86400
_STEPS = ((15 * _DAY, 60), (63 * _DAY, 300), (455 * _DAY, 3600))
"""How fine metrics are kept: for that many seconds, in steps of so many."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time that ends now, as one period of CloudWatch."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, seconds: int, now: float) -> Self:
        """A window of at least so many seconds, rounded to the steps in which metrics are kept."""
        step = next(step for kept, step in _STEPS if seconds <= kept)
        end = -(-int(now) // step) * step
        start = end - -(-seconds // step) * step
        return cls(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))

    @property
    def seconds(self) -> int:
        return int((self.end - self.start) / timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class Query:
    """One statistic of one metric: `Sum`, `p99`."""

    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    statistic: str


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What a version of a model did; latencies are in milliseconds, None without requests."""

    model: str
    version: int
    requests: int
    errors: int
    p50: float | None
    p99: float | None
    cold_starts: int


@dataclass(frozen=True, slots=True)
class ApiUse:
    """What the API did; latencies are in milliseconds and include the functions'."""

    requests: int
    client_errors: int
    server_errors: int
    p50: float | None
    p99: float | None


def read(queries: Mapping[_Key, Query], window: Window, client: Any) -> dict[_Key, float | None]:
    """The value of each statistic over the whole window; None where nothing was measured.

    Of a percentile that CloudWatch gives in parts, the largest counts. Raises what
    `translate_errors` raises.
    """
    keys, values = list(queries), dict[_Key, float | None]()
    for first in range(0, len(keys), _QUERIES):
        part = keys[first : first + _QUERIES]
        asked = [_asked(f"q{index}", queries[key], window) for index, key in enumerate(part)]
        found: dict[str, list[float]] = {}
        with translate_errors("metrics"):
            pages = client.get_paginator("get_metric_data").paginate(
                MetricDataQueries=asked, StartTime=window.start, EndTime=window.end
            )
            for page in pages:
                for each in page["MetricDataResults"]:
                    found.setdefault(each["Id"], []).extend(each["Values"])
        for index, key in enumerate(part):
            parts = found.get(f"q{index}")
            joined = sum if queries[key].statistic == "Sum" else max
            values[key] = joined(parts) if parts else None
    return values


def _asked(name: str, query: Query, window: Window) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in query.dimensions.items()]
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": query.namespace,
                "MetricName": query.metric,
                "Dimensions": dimensions,
            },
            "Period": window.seconds,
            "Stat": query.statistic,
        },
    }


def names(system: str, client: Any) -> list[tuple[str, Mapping[str, str]]]:
    """The names and dimensions of our metrics of a system that had values of late.

    CloudWatch lists metrics with values in the last two weeks. Raises what `translate_errors`
    raises.
    """
    with translate_errors("metrics"):
        pages = client.get_paginator("list_metrics").paginate(
            Namespace=NAMESPACE, Dimensions=[{"Name": "stack", "Value": system}]
        )
        listed = [each for page in pages for each in page["Metrics"]]
    found = {
        (
            each["MetricName"],
            frozenset((pair["Name"], pair["Value"]) for pair in each["Dimensions"]),
        )
        for each in listed
    }
    return [(name, dict(dimensions)) for name, dimensions in found]


def of_models(system: str, window: Window, client: Any) -> list[ModelUse]:
    """The use of each version, by model and number."""
    versions = {
        (dimensions["model"], int(dimensions["version"])): dimensions
        for _, dimensions in names(system, client)
        if dimensions.keys() == _BY_VERSION and _NUMBER.fullmatch(dimensions["version"])
    }
    wanted = {
        "requests": ("RequestCount", "Sum"),
        "errors": ("ErrorCount", "Sum"),
        "p50": ("Latency", "p50"),
        "p99": ("Latency", "p99"),
        "cold_starts": ("ColdStart", "Sum"),
    }
    found = read(
        {
            (version, name): Query(NAMESPACE, metric, dimensions, statistic)
            for version, dimensions in versions.items()
            for name, (metric, statistic) in wanted.items()
        },
        window,
        client,
    )
    return [
        ModelUse(
            *version,
            requests=int(found[version, "requests"] or 0),
            errors=int(found[version, "errors"] or 0),
            p50=found[version, "p50"],
            p99=found[version, "p99"],
            cold_starts=int(found[version, "cold_starts"] or 0),
        )
        for version in sorted(versions)
    ]


def of_api(api_id: str, window: Window, client: Any) -> ApiUse:
    """The use of an HTTP API."""
    wanted = {
        "requests": ("Count", "Sum"),
        "client_errors": ("4xx", "Sum"),
        "server_errors": ("5xx", "Sum"),
        "p50": ("Latency", "p50"),
        "p99": ("Latency", "p99"),
    }
    queries = {
        name: Query("AWS/ApiGateway", metric, {"ApiId": api_id}, statistic)
        for name, (metric, statistic) in wanted.items()
    }
    found = read(queries, window, client)
    return ApiUse(
        requests=int(found["requests"] or 0),
        client_errors=int(found["client_errors"] or 0),
        server_errors=int(found["server_errors"] or 0),
        p50=found["p50"],
        p99=found["p99"],
    )
