"""Deployments keep CodeDeploy's rules, as boto3 finds them."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.aws_plane import Function, Plane
from support.plane_clients import client_of, code_of, publish


@pytest.fixture
def deploys(endpoint: str, plane: Plane) -> Iterator[Any]:
    plane.add_group("app", "group")
    client = client_of("codedeploy", endpoint)
    yield client
    client.close()


def _revision(current: str, target: str) -> dict[str, Any]:
    properties = {
        "Name": "f",
        "Alias": "live",
        "CurrentVersion": current,
        "TargetVersion": target,
    }
    resource = {"Type": "AWS::Lambda::Function", "Properties": properties}
    content = json.dumps({"version": 0.0, "Resources": [{"f": resource}]})
    digest = hashlib.sha256(content.encode()).hexdigest()
    return {
        "revisionType": "AppSpecContent",
        "appSpecContent": {"content": content, "sha256": digest},
    }


def _deploy(deploys: Any, current: str = "1", target: str = "2") -> str:
    deployment_id: str = deploys.create_deployment(
        applicationName="app",
        deploymentGroupName="group",
        revision=_revision(current, target),
    )["deploymentId"]
    return deployment_id


def _status(deploys: Any, deployment_id: str) -> tuple[str, str | None]:
    told = deploys.get_deployment(deploymentId=deployment_id)["deploymentInfo"]
    return told["status"], told.get("errorInformation", {}).get("code")


def test_deployment_shifts_the_alias_and_finishes(
    functions: Any, deploys: Any, plane: Plane, function: Function
) -> None:
    publish(functions, "a")
    deployment_id = _deploy(deploys)
    assert _status(deploys, deployment_id) == ("Created", None)
    plane.shift(deployment_id, 0.1)
    assert _status(deploys, deployment_id) == ("InProgress", None)
    alias = functions.get_alias(FunctionName="f", Name="live")
    assert alias["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    with pytest.raises(ClientError) as error:
        _deploy(deploys)
    assert code_of(error) == (400, "DeploymentLimitExceededException")
    plane.finish(deployment_id)
    assert _status(deploys, deployment_id) == ("Succeeded", None)
    live = function.aliases["live"]
    assert (live.function_version, live.weights) == (2, {})


def test_alarm_stops_a_deployment_and_takes_it_back(
    functions: Any, deploys: Any, plane: Plane, function: Function
) -> None:
    publish(functions, "a")
    deployment_id = _deploy(deploys)
    plane.shift(deployment_id, 0.5)
    plane.alarm(deployment_id)
    assert _status(deploys, deployment_id) == ("Stopped", "ALARM_ACTIVE")
    live = function.aliases["live"]
    assert (live.function_version, live.weights) == (1, {})


def test_stop_without_rollback_leaves_weights_that_fail_the_next(
    functions: Any, deploys: Any, plane: Plane, function: Function
) -> None:
    publish(functions, "a")
    first = _deploy(deploys)
    plane.shift(first, 0.5)
    deploys.stop_deployment(deploymentId=first)
    assert _status(deploys, first) == ("Stopped", "MANUAL_STOP")
    assert function.aliases["live"].weights == {2: 0.5}
    second = _deploy(deploys)
    assert _status(deploys, second) == ("Failed", "INVALID_LAMBDA_CONFIGURATION")
    with pytest.raises(ClientError) as error:
        deploys.stop_deployment(deploymentId=second)
    assert code_of(error) == (400, "DeploymentAlreadyCompletedException")
    function.point("live", 1, {})
    third = _deploy(deploys)
    plane.shift(third, 0.5)
    deploys.stop_deployment(deploymentId=third, autoRollbackEnabled=True)
    assert function.aliases["live"].weights == {}


@pytest.mark.parametrize(
    ("current", "target", "code"),
    [
        ("2", "1", "INVALID_LAMBDA_CONFIGURATION"),  # the alias points elsewhere
        ("1", "1", "INVALID_LAMBDA_CONFIGURATION"),
        ("1", "7", "INVALID_LAMBDA_FUNCTION"),
    ],
)
def test_deployment_that_makes_no_sense_fails(
    functions: Any, deploys: Any, current: str, target: str, code: str
) -> None:
    publish(functions, "a")
    assert _status(deploys, _deploy(deploys, current, target)) == ("Failed", code)


def test_deployments_are_listed_by_group_and_status(
    functions: Any, deploys: Any, plane: Plane
) -> None:
    publish(functions, "a")
    made = []
    for _ in range(3):
        made.append(_deploy(deploys))
        plane.fail(made[-1], "HOOK_EXECUTION_FAILURE", "the hook said no")
    made.append(_deploy(deploys))
    plane.add_group("app", "empty")

    def listed(group: str, *statuses: str) -> list[str]:
        pages = deploys.get_paginator("list_deployments").paginate(
            applicationName="app", deploymentGroupName=group, includeOnlyStatuses=list(statuses)
        )
        return [each for page in pages for each in page["deployments"]]

    assert listed("group") == made[::-1]
    assert listed("group", "Created", "InProgress") == made[3:]
    assert listed("empty") == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"applicationName": "none"}, "ApplicationDoesNotExistException"),
        ({"deploymentGroupName": "none"}, "DeploymentGroupDoesNotExistException"),
        ({"revision": _revision("1", "x")}, "InvalidRevisionException"),
        (
            {"revision": {"revisionType": "AppSpecContent", "appSpecContent": {"content": "a: 1"}}},
            "InvalidRevisionException",
        ),
    ],
)
def test_deployment_that_cannot_be_made_is_refused(
    functions: Any, deploys: Any, change: dict[str, Any], code: str
) -> None:
    publish(functions, "a")
    asked = {"applicationName": "app", "deploymentGroupName": "group", **change}
    with pytest.raises(ClientError) as error:
        deploys.create_deployment(**{"revision": _revision("1", "2"), **asked})
    assert code_of(error) == (400, code)


def test_appspec_may_be_yaml(functions: Any, deploys: Any, plane: Plane) -> None:
    publish(functions, "a")
    content = """
version: 0.0
Resources:
  - f:
      Type: AWS::Lambda::Function
      Properties:
        Name: f
        Alias: live
        CurrentVersion: "1"
        TargetVersion: "2"
"""
    revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}}
    made = deploys.create_deployment(
        applicationName="app", deploymentGroupName="group", revision=revision
    )
    assert plane.deployments[made["deploymentId"]].target == 2
