"""The stand-in of Lambda and CodeDeploy keeps AWS's rules, as boto3 finds them."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from support.aws_plane import BUSY, Alias, Failure, Function, Plane, Refused, serving

_IMAGE = "registry/models@sha256:{}".format


def _run(image: str, event: Any, qualifier: str) -> Any:
    if event == "fail":
        raise RuntimeError("no model")
    return {"image": image, "event": event, "qualifier": qualifier}


@pytest.fixture
def plane() -> Plane:
    return Plane(run=_run)


@pytest.fixture
def function(plane: Plane) -> Function:
    return plane.add("f", _IMAGE("template"), environment={"MODEL_NAME": "half"})


@pytest.fixture
def endpoint(plane: Plane) -> Iterator[str]:
    with serving(plane) as endpoint:
        yield endpoint


def _client(service: Any, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 nobody checks it
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def functions(endpoint: str, function: Function) -> Iterator[Any]:
    assert function.aliases == {"live": Alias(1, revision=2)}
    client = _client("lambda", endpoint)
    yield client
    client.close()


@pytest.fixture
def deploys(endpoint: str, plane: Plane) -> Iterator[Any]:
    plane.add_group("app", "group")
    client = _client("codedeploy", endpoint)
    yield client
    client.close()


def _code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def _publish(functions: Any, name: str) -> str:
    """The version of that image, when it is ready."""
    functions.update_function_code(FunctionName="f", ImageUri=_IMAGE(name))
    functions.get_function(FunctionName="f")
    version: str = functions.publish_version(FunctionName="f", CodeSha256=name)["Version"]
    functions.get_waiter("published_version_active").wait(FunctionName="f", Qualifier=version)
    return version


def test_published_version_keeps_its_image(functions: Any) -> None:
    assert _publish(functions, "a") == "2"
    functions.update_function_code(FunctionName="f", ImageUri="registry:5000/models:tag")
    of = {
        qualifier: functions.get_function(FunctionName="f", Qualifier=qualifier)
        for qualifier in ("2", "live", "$LATEST")
    }
    assert of["2"]["Code"]["ResolvedImageUri"] == _IMAGE("a")
    assert of["2"]["Configuration"]["Environment"] == {"Variables": {"MODEL_NAME": "half"}}
    assert of["live"]["Configuration"]["Version"] == "1"
    assert of["$LATEST"]["Code"]["ResolvedImageUri"].startswith("registry:5000/models@sha256:")


def test_update_takes_its_time_and_is_refused_meanwhile(functions: Any, plane: Plane) -> None:
    plane.looks = 3
    before = functions.get_function_configuration(FunctionName="f")["RevisionId"]
    update = {"FunctionName": "f", "ImageUri": _IMAGE("a")}
    told = functions.update_function_code(**update, RevisionId=before)
    for refused, more in (
        (functions.update_function_code, update),
        (functions.publish_version, {}),
    ):
        with pytest.raises(ClientError) as error:
            refused(**{"FunctionName": "f", **more})
        assert _code(error) == (409, "ResourceConflictException")
    while (
        functions.get_function_configuration(FunctionName="f")["LastUpdateStatus"] != "Successful"
    ):
        assert plane.calls.count("GetFunctionConfiguration") < 9
    now = functions.get_function_configuration(FunctionName="f")["RevisionId"]
    assert len({before, told["RevisionId"], now}) == 3
    with pytest.raises(ClientError) as error:
        functions.publish_version(FunctionName="f", RevisionId=told["RevisionId"])
    assert _code(error) == (412, "PreconditionFailedException")
    with pytest.raises(ClientError, match="is different from current CodeSHA256") as error:
        functions.publish_version(FunctionName="f", CodeSha256="b")
    assert _code(error) == (400, "InvalidParameterValueException")
    assert functions.publish_version(FunctionName="f", RevisionId=now)["Version"] == "2"


def test_nothing_is_published_unless_the_code_was_updated(functions: Any) -> None:
    assert functions.publish_version(FunctionName="f")["Version"] == "1"
    assert _publish(functions, "template") == "2"
    assert functions.publish_version(FunctionName="f")["Version"] == "2"


def test_image_that_is_missing_is_refused(functions: Any, plane: Plane) -> None:
    plane.missing_images.add(_IMAGE("gone"))
    with pytest.raises(ClientError, match="Source image .* does not exist") as error:
        functions.update_function_code(FunctionName="f", ImageUri=_IMAGE("gone"))
    assert _code(error) == (400, "InvalidParameterValueException")


def test_version_is_pending_then_active_or_failed(functions: Any, plane: Plane) -> None:
    plane.broken[_IMAGE("b")] = Failure("InvalidImage", "The image is too large")
    functions.update_function_code(FunctionName="f", ImageUri=_IMAGE("b"))
    functions.get_function(FunctionName="f")
    plane.looks = 2
    assert functions.publish_version(FunctionName="f")["State"] == "Pending"
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            functions.invoke(FunctionName="f", Qualifier="2")
        assert _code(error) == (409, "ResourceConflictException")
        told = functions.get_function_configuration(FunctionName="f", Qualifier="2")
    told = functions.get_function_configuration(FunctionName="f", Qualifier="2")
    assert told["State"] == "Failed"
    assert (told["StateReasonCode"], told["StateReason"]) == plane.broken[_IMAGE("b")]


@pytest.mark.parametrize("shows_unfit", [False, True])
def test_image_may_be_taken_and_then_refused(
    shows_unfit: bool,  # noqa: FBT001 - as pytest passes it
    functions: Any,
    plane: Plane,
) -> None:
    plane.unfit[_IMAGE("b")] = why = Failure("ImageAccessDenied", "no right")
    plane.shows_unfit = shows_unfit
    told = functions.update_function_code(FunctionName="f", ImageUri=_IMAGE("b"))
    assert told["LastUpdateStatus"] == "InProgress"
    found = functions.get_function(FunctionName="f")
    configuration = found["Configuration"]
    assert (configuration["State"], configuration["LastUpdateStatus"]) == ("Active", "Failed")
    reason = [configuration[f"LastUpdateStatusReason{more}"] for more in ("Code", "")]
    assert tuple(reason) == why
    assert configuration["LastModified"] == told["LastModified"]
    shown = _IMAGE("b" if shows_unfit else "template")
    assert found["Code"]["ResolvedImageUri"] == shown
    _publish(functions, "a")
    assert "LastUpdateStatusReason" not in functions.get_function_configuration(FunctionName="f")


@pytest.mark.parametrize(
    "code", ["ResourceConflictException", "ResourceNotReadyException", "SnapStartNotReadyException"]
)
def test_version_that_sleeps_wakes_when_it_is_asked(
    code: str, functions: Any, function: Function
) -> None:
    function.versions[1].state = "Inactive"
    function.asleep, function.waking_looks = Refused(409, code, "not now"), 2
    asked = {"FunctionName": "f", "Qualifier": "1"}
    assert functions.get_function_configuration(**asked)["StateReasonCode"] == "Idle"
    for expected in (code, "ResourceConflictException"):
        with pytest.raises(ClientError) as error:
            functions.invoke(**asked)
        assert _code(error) == (409, expected)
    states = [functions.get_function_configuration(**asked)["State"] for _ in range(3)]
    assert states == ["Pending", "Pending", "Active"]
    assert functions.invoke(**asked)["StatusCode"] == 200


def test_snapshot_of_a_version_takes_its_time(functions: Any, plane: Plane) -> None:
    plane.publish_looks = 9
    functions.update_function_code(FunctionName="f", ImageUri=_IMAGE("a"))
    functions.get_function(FunctionName="f")
    assert functions.publish_version(FunctionName="f")["State"] == "Pending"
    asked = {"FunctionName": "f", "Qualifier": "2"}
    states = [functions.get_function_configuration(**asked)["State"] for _ in range(9)]
    assert states == [*["Pending"] * 8, "Active"]


@pytest.mark.parametrize("state", ["Deactivating", "Deactivated", "ActiveNonInvocable", "Deleting"])
def test_states_that_only_botocore_knows_refuse_invocations(
    state: str, functions: Any, function: Function
) -> None:
    function.versions[1].state = state
    found = functions.get_function_configuration(FunctionName="f", Qualifier="1")
    assert (found["State"], "StateReasonCode" in found) == (state, False)
    with pytest.raises(ClientError, match=f"following state: {state}") as error:
        functions.invoke(FunctionName="f", Qualifier="live")
    assert _code(error) == (409, "ResourceConflictException")


@pytest.mark.parametrize("said", BUSY)
def test_conflict_has_several_texts(said: str, functions: Any, plane: Plane) -> None:
    def refuse(_: str, __: str) -> None:
        raise Refused(409, "ResourceConflictException", said)

    plane.interfere = refuse
    with pytest.raises(ClientError) as error:
        functions.update_function_code(FunctionName="f", ImageUri=_IMAGE("a"))
    assert _code(error) == (409, "ResourceConflictException")


def test_payloads_have_a_limit(functions: Any, function: Function) -> None:
    size = 6 * 1024**2
    function.run = lambda _, event, __: "x" * len(event)
    body = b'"' + b"x" * (size - 2) + b'"'
    answer = functions.invoke(FunctionName="f", Payload=body)
    assert (answer["StatusCode"], "FunctionError" in answer) == (200, False)
    for more in ({}, {"InvocationType": "Event"}):
        with pytest.raises(ClientError, match="payload is too large") as error:
            functions.invoke(FunctionName="f", Payload=body + b" ", **more)
        assert _code(error) == (413, "RequestTooLargeException")
    function.run = lambda *_: "x" * (size + 200)
    answer = functions.invoke(FunctionName="f")
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Function.ResponseSizeTooLarge"


def test_aliases_have_a_limit(functions: Any, plane: Plane) -> None:
    plane.most_aliases = 2
    functions.create_alias(FunctionName="f", Name="a", FunctionVersion="1")
    with pytest.raises(ClientError) as error:
        functions.create_alias(FunctionName="f", Name="b", FunctionVersion="1")
    assert _code(error) == (400, "AliasLimitExceededException")


def test_provisioned_concurrency_keeps_traffic_where_it_was_until_it_is_allocated(
    functions: Any, function: Function
) -> None:
    live = {"FunctionName": "f", "Qualifier": "live"}
    with pytest.raises(ClientError) as error:
        functions.get_provisioned_concurrency_config(**live)
    assert _code(error) == (404, "ProvisionedConcurrencyConfigNotFoundException")
    version = _publish(functions, "a")
    function.provisioned["live"] = 2
    none: dict[str, Any] = {"AdditionalVersionWeights": {}}
    functions.update_alias(
        FunctionName="f", Name="live", FunctionVersion=version, RoutingConfig=none
    )
    found = functions.get_alias(FunctionName="f", Name="live")
    assert found["FunctionVersion"] == version
    assert found["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 1.0}}
    states = [functions.get_provisioned_concurrency_config(**live)["Status"] for _ in range(3)]
    assert states == ["IN_PROGRESS", "IN_PROGRESS", "READY"]
    assert "RoutingConfig" not in functions.get_alias(FunctionName="f", Name="live")


def test_lists_have_pages_and_no_states(functions: Any) -> None:
    for name in "abc":
        functions.create_alias(
            FunctionName="f", Name=name, FunctionVersion=_publish(functions, name)
        )
    pages = list(functions.get_paginator("list_versions_by_function").paginate(FunctionName="f"))
    assert [len(page["Versions"]) for page in pages] == [2, 2, 1]
    assert not any("State" in version for page in pages for version in page["Versions"])
    aliases = functions.get_paginator("list_aliases")
    pages = list(aliases.paginate(FunctionName="f"))
    assert [alias["Name"] for page in pages for alias in page["Aliases"]] == ["live", *"abc"]
    (page,) = aliases.paginate(FunctionName="f", FunctionVersion="3")
    assert [alias["Name"] for alias in page["Aliases"]] == ["b"]


def test_alias_moves_for_who_has_its_revision_and_keeps_its_weights(
    functions: Any, function: Function
) -> None:
    live = {"FunctionName": "f", "Name": "live"}
    version = _publish(functions, "a")
    revision = functions.get_alias(**live)["RevisionId"]
    routing = {"AdditionalVersionWeights": {version: 0.25}}
    functions.update_alias(**live, RoutingConfig=routing, RevisionId=revision)
    with pytest.raises(ClientError) as error:
        functions.update_alias(**live, FunctionVersion="2", RevisionId=revision)
    assert _code(error) == (412, "PreconditionFailedException")
    with pytest.raises(ClientError, match="already included in routing configuration"):
        functions.update_alias(**live, FunctionVersion="2")
    functions.update_alias(**live, Description="kept")
    assert function.aliases["live"].weights == {2: 0.25}
    assert functions.get_alias(**live)["RoutingConfig"] == routing
    none: dict[str, Any] = {"AdditionalVersionWeights": {}}
    told = functions.update_alias(**live, FunctionVersion="2", RoutingConfig=none)
    assert (told["FunctionVersion"], "RoutingConfig" in told) == ("2", False)


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("live", "1", (409, "ResourceConflictException")),
        ("other", "7", (404, "ResourceNotFoundException")),
        ("12", "1", (400, "ValidationException")),
        ("a.b", "1", (400, "ValidationException")),
        ("a" * 129, "1", (400, "ValidationException")),
    ],
)
def test_alias_that_cannot_be_made_is_refused(
    functions: Any, name: str, version: str, expected: tuple[int, str]
) -> None:
    with pytest.raises(ClientError) as error:
        functions.create_alias(FunctionName="f", Name=name, FunctionVersion=version)
    assert _code(error) == expected


def test_alias_is_deleted_once_or_twice(functions: Any) -> None:
    functions.delete_alias(FunctionName="f", Name="live")
    functions.delete_alias(FunctionName="f", Name="live")
    with pytest.raises(ClientError) as error:
        functions.get_alias(FunctionName="f", Name="live")
    assert _code(error) == (404, "ResourceNotFoundException")


def test_version_that_an_alias_or_its_weight_points_to_is_not_deleted(
    functions: Any, function: Function
) -> None:
    _publish(functions, "a")
    _publish(functions, "b")
    function.point("live", 1, {2: 0.1})
    for version in ("1", "2"):
        with pytest.raises(ClientError, match=r"following aliases reference it: \[live\]") as error:
            functions.delete_function(FunctionName="f", Qualifier=version)
        assert _code(error) == (409, "ResourceConflictException")
    for _ in range(2):  # deleting what is gone is no error
        functions.delete_function(FunctionName="f", Qualifier="3")
    assert function.versions.keys() == {1, 2}


def test_invocation_tells_its_version_and_the_errors_of_the_function(functions: Any) -> None:
    answer = functions.invoke(FunctionName="f", Qualifier="live", Payload=b'"hello"')
    assert answer["ExecutedVersion"] == "1"
    assert json.loads(answer["Payload"].read()) == {
        "image": _IMAGE("template"),
        "event": "hello",
        "qualifier": "live",
    }
    answer = functions.invoke(FunctionName="f", Qualifier="1", Payload=b'"fail"')
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"].read())["errorMessage"] == "no model"
    with pytest.raises(ClientError) as error:
        functions.invoke(FunctionName="f", Qualifier="9")
    assert _code(error) == (404, "ResourceNotFoundException")


def test_alias_shares_its_invocations_by_weight(functions: Any, function: Function) -> None:
    _publish(functions, "a")
    function.point("live", 1, {2: 0.25})
    images = [function.invoke({})["image"] for _ in range(400)]
    assert 60 < images.count(_IMAGE("a")) < 140


def test_event_is_taken_at_once_and_runs_until_the_plane_ends() -> None:
    go, seen = threading.Event(), []

    def run(_: str, event: Any, qualifier: str) -> None:
        go.wait(300)
        seen.append((event, qualifier))

    plane = Plane()
    plane.add("f", _IMAGE("a"), run=run)
    with serving(plane) as endpoint:
        client = _client("lambda", endpoint)
        answer = client.invoke(
            FunctionName="f", Qualifier="live", InvocationType="Event", Payload=b"{}"
        )
        assert (answer["StatusCode"], seen) == (202, [])
        go.set()
        client.close()
    assert seen == [({}, "live")]


def test_permission_is_of_one_alias(functions: Any, function: Function) -> None:
    live = {"FunctionName": "f", "Qualifier": "live"}
    grant = {
        "StatementId": "api",
        "Action": "lambda:InvokeFunction",
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": "arn:aws:execute-api:eu-west-1:123456789012:api/*",
    }
    functions.create_alias(FunctionName="f", Name="other", FunctionVersion="1")
    before = function.aliases["live"].revision
    functions.add_permission(**live, **grant)
    assert function.aliases["live"].revision > before
    with pytest.raises(ClientError) as error:
        functions.add_permission(**live, **grant)
    assert _code(error) == (409, "ResourceConflictException")
    (statement,) = json.loads(functions.get_policy(**live)["Policy"])["Statement"]
    assert statement == function.policies["live"]["api"]
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert statement["Resource"] == function.arn("live")
    functions.remove_permission(**live, StatementId="api")
    for refused, asked in (
        (functions.get_policy, live),
        (functions.get_policy, {**live, "Qualifier": "other"}),
        (functions.remove_permission, {**live, "StatementId": "api"}),
    ):
        with pytest.raises(ClientError) as error:
            refused(**asked)
        assert _code(error) == (404, "ResourceNotFoundException")


def test_each_of_several_functions_is_found_by_name_or_arn(functions: Any, plane: Plane) -> None:
    other = plane.add("g", _IMAGE("g"), alias=False, run=lambda *_: "of g")
    assert functions.list_aliases(FunctionName="g")["Aliases"] == []
    assert functions.invoke(FunctionName=other.arn())["Payload"].read() == b'"of g"'
    with pytest.raises(ClientError) as error:
        functions.get_function(FunctionName="h")
    assert _code(error) == (404, "ResourceNotFoundException")


def test_calls_are_told_and_can_be_interfered_with(functions: Any, plane: Plane) -> None:
    def refuse(operation: str, moment: str) -> None:
        if (operation, moment) == ("DeleteAlias", "after"):
            raise Refused(429, "TooManyRequestsException", "later")

    plane.interfere = refuse
    with pytest.raises(ClientError, match="later"):
        functions.delete_alias(FunctionName="f", Name="live")
    assert plane.calls == ["DeleteAlias"]
    assert plane.functions["f"].aliases == {}


def test_what_fails_in_the_stand_in_is_raised_at_its_end(plane: Plane) -> None:
    plane.add("f", _IMAGE("a"))
    with ExitStack() as stack:
        client = _client("lambda", stack.enter_context(serving(plane)))
        with pytest.raises(ClientError, match="The stand-in"):
            client.delete_function(FunctionName="f")
        client.close()
        with pytest.raises(AssertionError, match="whole function"):
            stack.close()


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
    _publish(functions, "a")
    deployment_id = _deploy(deploys)
    assert _status(deploys, deployment_id) == ("Created", None)
    plane.shift(deployment_id, 0.1)
    assert _status(deploys, deployment_id) == ("InProgress", None)
    alias = functions.get_alias(FunctionName="f", Name="live")
    assert alias["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    with pytest.raises(ClientError) as error:
        _deploy(deploys)
    assert _code(error) == (400, "DeploymentLimitExceededException")
    plane.finish(deployment_id)
    assert _status(deploys, deployment_id) == ("Succeeded", None)
    live = function.aliases["live"]
    assert (live.function_version, live.weights) == (2, {})


def test_alarm_stops_a_deployment_and_takes_it_back(
    functions: Any, deploys: Any, plane: Plane, function: Function
) -> None:
    _publish(functions, "a")
    deployment_id = _deploy(deploys)
    plane.shift(deployment_id, 0.5)
    plane.alarm(deployment_id)
    assert _status(deploys, deployment_id) == ("Stopped", "ALARM_ACTIVE")
    live = function.aliases["live"]
    assert (live.function_version, live.weights) == (1, {})


def test_stop_without_rollback_leaves_weights_that_fail_the_next(
    functions: Any, deploys: Any, plane: Plane, function: Function
) -> None:
    _publish(functions, "a")
    first = _deploy(deploys)
    plane.shift(first, 0.5)
    deploys.stop_deployment(deploymentId=first)
    assert _status(deploys, first) == ("Stopped", "MANUAL_STOP")
    assert function.aliases["live"].weights == {2: 0.5}
    second = _deploy(deploys)
    assert _status(deploys, second) == ("Failed", "INVALID_LAMBDA_CONFIGURATION")
    with pytest.raises(ClientError) as error:
        deploys.stop_deployment(deploymentId=second)
    assert _code(error) == (400, "DeploymentAlreadyCompletedException")
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
    _publish(functions, "a")
    assert _status(deploys, _deploy(deploys, current, target)) == ("Failed", code)


def test_deployments_are_listed_by_group_and_status(
    functions: Any, deploys: Any, plane: Plane
) -> None:
    _publish(functions, "a")
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
    _publish(functions, "a")
    asked = {"applicationName": "app", "deploymentGroupName": "group", **change}
    with pytest.raises(ClientError) as error:
        deploys.create_deployment(**{"revision": _revision("1", "2"), **asked})
    assert _code(error) == (400, code)


def test_appspec_may_be_yaml(functions: Any, deploys: Any, plane: Plane) -> None:
    _publish(functions, "a")
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
