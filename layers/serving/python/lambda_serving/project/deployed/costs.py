"""What a deployed stack cost, from what CloudWatch counted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambda_serving.project.deployed.metrics import Query, Window, names, read
from lambda_serving.project.deployed.prices import LAMBDA_BY_GB_SECOND, PRICES
from lambda_serving.project.deployed.stack import API, FUNCTION, Stack
from lambda_serving.release.aws.clients import translate_errors

__all__ = ["FunctionCost", "Spent", "spent"]

_MB = 1024
_FREE_DISK_MB = 512
_ALARM = "AWS::CloudWatch::Alarm"
_DASHBOARD = "AWS::CloudWatch::Dashboard"


@dataclass(frozen=True, slots=True)
class FunctionCost:
    """What a function used and cost; `memory` is in megabytes, as it is configured now."""

    name: str
    architecture: str
    memory: int
    invocations: int
    gb_seconds: float
    dollars: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What a stack cost over a window, and `monthly`, which it costs whatever the traffic."""

    functions: Sequence[FunctionCost]
    api_requests: int
    api_dollars: float
    metrics: int
    alarms: int
    dashboards: int
    monthly: float

    @property
    def dollars(self) -> float:
        """Of the window, without `monthly`."""
        return self.api_dollars + sum(each.dollars for each in self.functions)


def spent(stack: Stack, window: Window, cloudwatch: Any, functions: Any) -> Spent:
    """What a stack cost; raises what `translate_errors` raises.

    Durations are those that CloudWatch counts: loading a model at a cold start is not in them.
    """
    found = stack.all(FUNCTION)
    queries = {
        (name, metric): Query("AWS/Lambda", metric, {"FunctionName": name}, "Sum")
        for name in found
        for metric in ("Duration", "Invocations")
    } | {
        (api_id, "Count"): Query("AWS/ApiGateway", "Count", {"ApiId": api_id}, "Sum")
        for api_id in stack.all(API)
    }
    sums = {key: value or 0.0 for key, value in read(queries, window, cloudwatch).items()}
    api_requests = int(sum(sums[api_id, "Count"] for api_id in stack.all(API)))
    metrics, alarms = len(names(stack.system, cloudwatch)), len(stack.all(_ALARM))
    dashboards = len(stack.all(_DASHBOARD))
    return Spent(
        [_of_function(name, sums, functions) for name in _used(found, sums)],
        api_requests,
        api_requests * PRICES.api_request,
        metrics,
        alarms,
        dashboards,
        metrics * PRICES.metric + alarms * PRICES.alarm + dashboards * PRICES.dashboard,
    )


def _used(functions: Iterable[str], sums: Mapping[tuple[str, str], float]) -> list[str]:
    return sorted(name for name in functions if sums[name, "Invocations"])


def _of_function(name: str, sums: Mapping[tuple[str, str], float], functions: Any) -> FunctionCost:
    with translate_errors(f"function {name}"):
        set_up = functions.get_function_configuration(FunctionName=name)
    memory, [architecture] = set_up["MemorySize"], set_up.get("Architectures", ["x86_64"])
    disk = set_up.get("EphemeralStorage", {}).get("Size", _FREE_DISK_MB) - _FREE_DISK_MB
    seconds, invocations = sums[name, "Duration"] / 1000, int(sums[name, "Invocations"])
    gb_seconds = seconds * memory / _MB
    return FunctionCost(
        name,
        architecture,
        memory,
        invocations,
        gb_seconds,
        gb_seconds * LAMBDA_BY_GB_SECOND[architecture]
        + seconds * disk / _MB * PRICES.lambda_disk
        + invocations * PRICES.lambda_request,
    )
