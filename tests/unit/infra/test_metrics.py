"""Alarms and dashboards use metrics that something counts, and only this stack's."""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from lambda_serving.function.telemetry import Telemetry
from lambda_serving.model_spec import ServableId
from lambda_serving.monitoring.embedded_metrics import NAMESPACE
from lambda_serving.release.aws.events import Reporter
from support.template_rules import View

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

_SYSTEM = "local"
_BY_MODEL = {"model", "service", "stack"}
_SEARCH = re.compile(
    rf"SEARCH\('{{{NAMESPACE},(?P<dimensions>[\w,]+)}} stack=\"(?P<stack>[^\"]*)\""
    r" MetricName=\"(?P<name>\w+)\"'"
)
_OF_AWS = {  # metrics of AWS itself, and the dimension that only a resource of this stack has
    "AWS/ApiGateway": "ApiId",
    "AWS/Lambda": "FunctionName",
    "AWS/NetworkELB": "LoadBalancer",
    "AWS/SQS": "QueueName",
}


@pytest.fixture
def counted(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines from which CloudWatch makes metrics, one of each kind that there is."""
    telemetry = Telemetry(ServableId("MLP", 2), _SYSTEM)
    for failed in (True, False):
        telemetry.record(1.5, failed=failed)
    unused = cast("EventBridgeClient", None)
    Reporter(_SYSTEM, unused).count("MLP")
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _metrics(lines: list[dict[str, Any]]) -> set[tuple[str, frozenset[str]]]:
    return {
        (metric["Name"], frozenset(dimensions))
        for line in lines
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
        for dimensions in directive["Dimensions"]
    }


def _alarms(view: View) -> Iterator[tuple[str, dict[str, Any]]]:
    for stack, resources in view["stacks"].items():
        for name, resource in resources.items():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                yield f"{stack}/{name}", resource["Properties"]


def _looked_at(view: View) -> Iterator[tuple[str, frozenset[str], str]]:
    """Name, dimensions and stack of our own metrics in alarms and dashboards."""
    for _, alarm in _alarms(view):
        if alarm["Namespace"] == NAMESPACE:
            dimensions = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
            yield alarm["MetricName"], frozenset(dimensions), dimensions.get("stack", "")
    body = view["stacks"]["System"]["Dashboard"]["Properties"]["DashboardBody"]
    expressions = [
        metric["expression"]
        for widget in json.loads(body)["widgets"]
        for [metric, *_] in widget["properties"]["metrics"]
        if isinstance(metric, dict)
    ]
    assert expressions
    for expression in expressions:
        found = _SEARCH.match(expression)
        assert found, f"{expression} is of all stacks"
        yield found["name"], frozenset(found["dimensions"].split(",")), found["stack"]


def test_everything_counted_names_its_stack(counted: list[dict[str, Any]]) -> None:
    assert {line["stack"] for line in counted} == {_SYSTEM}
    assert all("stack" in dimensions for _, dimensions in _metrics(counted))


def test_failures_are_counted_by_model_as_well(counted: list[dict[str, Any]]) -> None:
    by_model = {name for name, dimensions in _metrics(counted) if dimensions == _BY_MODEL}
    assert by_model == {"ErrorCount", "ReleaseFailures"}


def test_requests_that_succeed_count_as_no_error(counted: list[dict[str, Any]]) -> None:
    assert [line["ErrorCount"] for line in counted if "ErrorCount" in line] == [[1.0]]
    assert [line["RequestCount"] for line in counted if "RequestCount" in line] == [[1.0], [1.0]]


@pytest.mark.parametrize("which", ["view", "full"])
def test_watched_metrics_are_counted_and_of_this_stack(
    which: str, counted: list[dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    looked_at = list(_looked_at(request.getfixturevalue(which)))
    assert {stack for _, _, stack in looked_at} == {_SYSTEM}
    assert {(name, dimensions) for name, dimensions, _ in looked_at} <= _metrics(counted)


@pytest.mark.parametrize("which", ["view", "full"])
def test_alarm_on_a_metric_of_aws_is_on_a_resource_of_this_stack(
    which: str, request: pytest.FixtureRequest
) -> None:
    view = request.getfixturevalue(which)
    for name, alarm in _alarms(view):
        if alarm["Namespace"] == NAMESPACE:
            continue
        values = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
        assert _OF_AWS[alarm["Namespace"]] in values, name
        assert all(_is_reference(value, view) for value in values.values()), name


def _is_reference(value: Any, view: View) -> bool:
    """Whether AWS SAM resolved it from a resource: to its logical id, a name, or not at all."""
    if isinstance(value, dict):
        return "Fn::GetAtt" in value
    named = {name for resources in view["stacks"].values() for name in resources}
    return str(value).partition(":")[0] in named


@pytest.mark.parametrize("function", ["ReleaseFunction", "BuildFunction"])
@pytest.mark.parametrize("metric", ["Errors", "Throttles"])
def test_functions_of_releases_have_alarms(metric: str, function: str, view: View) -> None:
    [alarm] = [
        alarm
        for _, alarm in _alarms(view)
        if alarm["MetricName"] == metric
        if {"Name": "FunctionName", "Value": function} in alarm["Dimensions"]
    ]
    assert alarm["AlarmActions"] == ["AlarmTopic"]


def test_single_failed_or_throttled_run_raises_no_alarm(view: View) -> None:
    for name, alarm in _alarms(view):
        if alarm["Namespace"] == "AWS/Lambda":
            assert alarm["EvaluationPeriods"] > 1 or alarm["Threshold"] > 1, name
