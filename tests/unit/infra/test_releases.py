"""The events that reach a release and the rights of a release, by the templates."""

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from moto.events.models import EventPattern

from support import events, iam
from support.iam.policies import allows
from support.template_rules import View

_REGION = "us-east-1:123456789012"
_FUNCTION = f"arn:aws:lambda:{_REGION}:function:"
_API = "arn:aws:apigateway:us-east-1::/apis/"
_GROUP = f"arn:aws:codedeploy:{_REGION}:deploymentgroup:"
_COMPANION = """
import sys
from samcli.lib.bootstrap.companion_stack.data_types import CompanionStack
print(CompanionStack(sys.argv[1]).stack_name, end="")
"""
_OURS = {"aws:ResourceTag/lambda-serving": "local"}
_API_CALLS = {**_OURS, "lambda:Principal": "apigateway.amazonaws.com"}
_ANYBODY_CALLS = {**_OURS, "lambda:Principal": "*"}
_ROLES = iam.roles(
    "release",
    {
        "AWS::AccountId": "123456789012",
        "AWS::Region": "us-east-1",
        "AWS::StackName": "local-System-Release",
        "ApiId": "Api",
        "Models": "Models",
        "System": "local",
    },
)
_OTHERS = {"aws:ResourceTag/lambda-serving": "local-two"}


def _properties(view: View, stack: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = view["stacks"][stack][name]["Properties"]
    return found


def _concerns(view: View, event: Any) -> list[str]:
    """The models whose rules send an event on."""
    return [
        model
        for model in ("MLP", "HalfPlusTwo")
        if EventPattern.load(
            json.dumps(_properties(view, model, "Changes")["EventPattern"])
        ).matches_event(event)
    ]


def _may(
    role: str, action: str, resource: str, context: Mapping[str, str | list[str]] | None = None
) -> bool:
    """Whether a role of the release may do this to that."""
    return allows(_ROLES[role].statements, action, resource, context or {})


@pytest.mark.parametrize(
    ("key", "models"),
    [
        ("models/MLP/2/saved_model.pb", ["MLP"]),
        ("models/HalfPlusTwo/1/manifest.json", ["HalfPlusTwo"]),
        ("models/_releases/MLP/2.json", ["MLP"]),
        ("models/models.config", ["MLP", "HalfPlusTwo"]),
        ("models/MLP2/1/saved_model.pb", []),
        ("models/MLP", []),
        ("elsewhere/models/MLP/2/saved_model.pb", []),
    ],
)
@pytest.mark.parametrize("name", ["object-created", "object-deleted"])
def test_object_concerns_the_models_of_its_key(
    name: str, key: str, models: list[str], view: View
) -> None:
    event = events.load(name)
    event["detail"]["object"]["key"] = key
    assert _concerns(view, event) == models


def test_object_of_another_bucket_concerns_nobody(view: View) -> None:
    event = events.load("object-created")
    event["detail"]["bucket"]["name"] = "Others"
    assert _concerns(view, event) == []


@pytest.mark.parametrize(
    ("status", "models"),
    [
        ("CREATE_COMPLETE", ["MLP", "HalfPlusTwo"]),
        ("UPDATE_COMPLETE", ["MLP", "HalfPlusTwo"]),
        ("UPDATE_ROLLBACK_COMPLETE", ["MLP", "HalfPlusTwo"]),
        ("UPDATE_IN_PROGRESS", []),
        ("DELETE_COMPLETE", []),
    ],
)
def test_end_of_a_deployment_concerns_all_models(
    status: str, models: list[str], view: View
) -> None:
    event = events.load("stack-status")
    event["detail"]["status-details"]["status"] = status
    assert _concerns(view, event) == models


def test_deployment_of_a_nested_stack_concerns_nobody(view: View) -> None:
    event = events.load("stack-status")
    event["detail"]["stack-id"] = event["detail"]["stack-id"].replace("local/", "local-MLP-1/")
    assert _concerns(view, event) == []


@pytest.mark.parametrize(
    ("application", "group", "models"),
    [
        ("local", "local-MLP", ["MLP"]),
        ("local", "local-MLP2", []),
        ("others", "local-MLP", []),
    ],
)
def test_shift_of_traffic_concerns_its_model(
    application: str, group: str, models: list[str], view: View
) -> None:
    event = events.load("deployment-state")
    event["detail"] |= {"application": application, "deploymentGroup": group}
    assert _concerns(view, event) == models


def test_every_model_has_a_look_once_an_hour(view: View) -> None:
    for model in ("MLP", "HalfPlusTwo"):
        rule = _properties(view, model, "Changes")
        [target] = rule["Targets"]
        assert rule["ScheduleExpression"] == "rate(1 hour)"
        assert target["SqsParameters"] == {"MessageGroupId": model}


def test_queue_takes_events_of_this_stacks_rules_alone(view: View) -> None:
    [statement] = _properties(view, "System/Release", "ChangesPolicy")["PolicyDocument"][
        "Statement"
    ]
    pattern = statement["Condition"]["ArnLike"]["aws:SourceArn"]
    rule = _properties(view, "MLP", "Changes")["Name"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert fnmatchcase(f"arn:aws:events:{_REGION}:rule/{rule}", pattern)
    another = rule.replace("local", "local-two")
    assert not fnmatchcase(f"arn:aws:events:{_REGION}:rule/{another}", pattern)


def test_messages_stay_hidden_for_six_runs_of_the_function(view: View) -> None:
    seconds = _properties(view, "System/Release", "ReleaseFunction")["Timeout"]
    assert _properties(view, "System/Release", "Changes")["VisibilityTimeout"] == 6 * seconds
    mapping = _properties(view, "System/Release", "ReleaseFunctionChanges")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_longest_names_are_legal(view: View) -> None:
    system, model = "s" * 23, "m" * 40
    names = [
        _properties(view, "MLP", "PredictFunction")["FunctionName"],
        _properties(view, "MLP", "Changes")["Name"],
    ]
    assert [len(name.replace("local", system).replace("MLP", model)) for name in names] == [
        64,
        64,
    ]  # the most for either


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("lambda:UpdateFunctionCode", f"{_FUNCTION}local-MLP", _OURS),
        ("lambda:InvokeFunction", f"{_FUNCTION}local-MLP:3", _OURS),
        ("lambda:AddPermission", f"{_FUNCTION}local-MLP:version-2", _API_CALLS),
        ("lambda:DeleteFunction", f"{_FUNCTION}local-MLP", _OURS),  # of a version: see policies
        ("codedeploy:StopDeployment", "*", {}),
        ("s3:GetObject", "arn:aws:s3:::Models/models/models.config", {}),
        ("s3:PutObject", "arn:aws:s3:::Models/models/_releases/MLP/2.json", {}),
        ("s3:ListBucket", "arn:aws:s3:::Models", {"s3:prefix": "models/MLP/"}),
        ("s3:ListBucket", "arn:aws:s3:::Models", {}),  # or S3 says 403 of what is not there
        ("apigateway:POST", f"{_API}Api/routes", {}),
        ("apigateway:DELETE", f"{_API}Api/integrations/abc", {}),
        ("codedeploy:CreateDeployment", f"{_GROUP}local/local-MLP", {}),
    ],
)
def test_release_may(action: str, resource: str, context: Mapping[str, str]) -> None:
    assert _may("ReleaseRole", action, resource, context)


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("lambda:AddPermission", f"{_FUNCTION}local-MLP:version-2", _ANYBODY_CALLS),
        ("lambda:AddPermission", f"{_FUNCTION}local-MLP:version-2", _OURS),
        ("lambda:DeleteFunction", f"{_FUNCTION}local_release", {}),
        ("lambda:CreateFunction", f"{_FUNCTION}local-MLP", _OURS),
        ("lambda:UpdateFunctionConfiguration", f"{_FUNCTION}local-MLP", _OURS),
        ("lambda:UpdateFunctionCode", f"{_FUNCTION}local-two-MLP", _OTHERS),
        ("lambda:DeleteFunction", f"{_FUNCTION}local-two-MLP:3", _OTHERS),
        ("lambda:UpdateFunctionCode", f"{_FUNCTION}local-stranger", {}),
        ("lambda:UpdateFunctionCode", f"{_FUNCTION}local_release", {}),
        ("s3:PutObject", "arn:aws:s3:::Models/models/MLP/2/manifest.json", {}),
        ("s3:DeleteObject", "arn:aws:s3:::Models/models/_releases/MLP/2.json", {}),
        ("s3:ListBucket", "arn:aws:s3:::Other", {}),
        ("apigateway:DELETE", f"{_API}Api", {}),
        ("apigateway:POST", f"{_API}Other/routes", {}),
        ("codedeploy:CreateDeployment", f"{_GROUP}local-two/local-two-MLP", {}),
    ],
)
def test_release_may_not(action: str, resource: str, context: Mapping[str, str]) -> None:
    assert not _may("ReleaseRole", action, resource, context)


@pytest.mark.parametrize(
    ("role", "action"), [("ReleaseRole", "ecr:BatchDeleteImage"), ("ModelRole", "ecr:PutImage")]
)
def test_images_are_those_of_repositories_that_sam_made_for_the_stack(
    role: str, action: str, sam_says: Callable[..., str]
) -> None:
    repository = f"arn:aws:ecr:{_REGION}:repository/any"
    allowed = {
        stack: _may(
            role,
            action,
            repository,
            {"aws:ResourceTag/AwsSamCliCompanionStack": sam_says("-c", _COMPANION, stack)},
        )
        for stack in ("local", "local-two", "lo")
    }
    assert allowed == {"local": True, "local-two": False, "lo": False}
    assert not _may(role, action, repository)


def test_build_writes_records_of_its_model_and_no_models() -> None:
    bucket, mlp = "arn:aws:s3:::Models/models", {"aws:PrincipalTag/model": "MLP"}
    allowed = {
        key
        for key in ("MLP/2/a", "MLP2/2/a", "_releases/MLP/2.json", "_releases/MLP2/2.json")
        for action in ("s3:GetObject", "s3:PutObject")
        if _may("ModelRole", action, f"{bucket}/{key}", mlp)
    }
    assert allowed == {"MLP/2/a", "_releases/MLP/2.json"}
    assert not _may("ModelRole", "s3:PutObject", f"{bucket}/MLP/2/a", mlp)
    assert not _may("ModelRole", "s3:GetObject", f"{bucket}/MLP/2/a")


def test_traffic_is_shifted_in_the_group_that_the_release_looks_for(view: View, full: View) -> None:
    group = _properties(full, "MLP", "ShiftedTraffic")
    application = _properties(full, "System/Release", "Shifting")["ApplicationName"]
    assert "ShiftedTraffic" not in view["stacks"]["MLP"]
    assert (application, group["ApplicationName"]) == ("local", "local")
    assert group["DeploymentGroupName"] == "PredictFunction"  # a reference: the function's name
