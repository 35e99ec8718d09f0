"""Code, versions and invocations keep Lambda's rules, as boto3 finds them."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.aws_plane import BUSY, Failure, Function, Plane, Refused
from support.plane_clients import IMAGE, code_of, publish


def test_published_version_keeps_its_image(functions: Any) -> None:
    assert publish(functions, "a") == "2"
    functions.update_function_code(FunctionName="f", ImageUri="registry:5000/models:tag")
    of = {
        qualifier: functions.get_function(FunctionName="f", Qualifier=qualifier)
        for qualifier in ("2", "live", "$LATEST")
    }
    assert of["2"]["Code"]["ResolvedImageUri"] == IMAGE("a")
    assert of["2"]["Configuration"]["Environment"] == {"Variables": {"MODEL_NAME": "half"}}
    assert of["live"]["Configuration"]["Version"] == "1"
    assert of["$LATEST"]["Code"]["ResolvedImageUri"].startswith("registry:5000/models@sha256:")


def test_update_takes_its_time_and_is_refused_meanwhile(functions: Any, plane: Plane) -> None:
    plane.looks = 3
    before = functions.get_function_configuration(FunctionName="f")["RevisionId"]
    update = {"FunctionName": "f", "ImageUri": IMAGE("a")}
    told = functions.update_function_code(**update, RevisionId=before)
    for refused, more in (
        (functions.update_function_code, update),
        (functions.publish_version, {}),
    ):
        with pytest.raises(ClientError) as error:
            refused(**{"FunctionName": "f", **more})
        assert code_of(error) == (409, "ResourceConflictException")
    while (
        functions.get_function_configuration(FunctionName="f")["LastUpdateStatus"] != "Successful"
    ):
        assert plane.calls.count("GetFunctionConfiguration") < 9
    now = functions.get_function_configuration(FunctionName="f")["RevisionId"]
    assert len({before, told["RevisionId"], now}) == 3
    with pytest.raises(ClientError) as error:
        functions.publish_version(FunctionName="f", RevisionId=told["RevisionId"])
    assert code_of(error) == (412, "PreconditionFailedException")
    with pytest.raises(ClientError, match="is different from current CodeSHA256") as error:
        functions.publish_version(FunctionName="f", CodeSha256="b")
    assert code_of(error) == (400, "InvalidParameterValueException")
    assert functions.publish_version(FunctionName="f", RevisionId=now)["Version"] == "2"


def test_nothing_is_published_unless_the_code_was_updated(functions: Any) -> None:
    assert functions.publish_version(FunctionName="f")["Version"] == "1"
    assert publish(functions, "template") == "2"
    assert functions.publish_version(FunctionName="f")["Version"] == "2"


def test_image_that_is_missing_is_refused(functions: Any, plane: Plane) -> None:
    plane.missing_images.add(IMAGE("gone"))
    with pytest.raises(ClientError, match="Source image .* does not exist") as error:
        functions.update_function_code(FunctionName="f", ImageUri=IMAGE("gone"))
    assert code_of(error) == (400, "InvalidParameterValueException")


def test_version_is_pending_then_active_or_failed(functions: Any, plane: Plane) -> None:
    plane.broken[IMAGE("b")] = Failure("InvalidImage", "The image is too large")
    functions.update_function_code(FunctionName="f", ImageUri=IMAGE("b"))
    functions.get_function(FunctionName="f")
    plane.looks = 2
    assert functions.publish_version(FunctionName="f")["State"] == "Pending"
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            functions.invoke(FunctionName="f", Qualifier="2")
        assert code_of(error) == (409, "ResourceConflictException")
        told = functions.get_function_configuration(FunctionName="f", Qualifier="2")
    told = functions.get_function_configuration(FunctionName="f", Qualifier="2")
    assert told["State"] == "Failed"
    assert (told["StateReasonCode"], told["StateReason"]) == plane.broken[IMAGE("b")]


@pytest.mark.parametrize("shows_unfit", [False, True])
def test_image_may_be_taken_and_then_refused(
    shows_unfit: bool,  # noqa: FBT001 - as pytest passes it
    functions: Any,
    plane: Plane,
) -> None:
    plane.unfit[IMAGE("b")] = why = Failure("ImageAccessDenied", "no right")
    plane.shows_unfit = shows_unfit
    told = functions.update_function_code(FunctionName="f", ImageUri=IMAGE("b"))
    assert told["LastUpdateStatus"] == "InProgress"
    found = functions.get_function(FunctionName="f")
    configuration = found["Configuration"]
    assert (configuration["State"], configuration["LastUpdateStatus"]) == ("Active", "Failed")
    reason = [configuration[f"LastUpdateStatusReason{more}"] for more in ("Code", "")]
    assert tuple(reason) == why
    assert configuration["LastModified"] == told["LastModified"]
    shown = IMAGE("b" if shows_unfit else "template")
    assert found["Code"]["ResolvedImageUri"] == shown
    publish(functions, "a")
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
        assert code_of(error) == (409, expected)
    states = [functions.get_function_configuration(**asked)["State"] for _ in range(3)]
    assert states == ["Pending", "Pending", "Active"]
    assert functions.invoke(**asked)["StatusCode"] == 200


def test_snapshot_of_a_version_takes_its_time(functions: Any, plane: Plane) -> None:
    plane.publish_looks = 9
    functions.update_function_code(FunctionName="f", ImageUri=IMAGE("a"))
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
    assert code_of(error) == (409, "ResourceConflictException")


@pytest.mark.parametrize("said", BUSY)
def test_conflict_has_several_texts(said: str, functions: Any, plane: Plane) -> None:
    def refuse(_: str, __: str) -> None:
        raise Refused(409, "ResourceConflictException", said)

    plane.interfere = refuse
    with pytest.raises(ClientError) as error:
        functions.update_function_code(FunctionName="f", ImageUri=IMAGE("a"))
    assert code_of(error) == (409, "ResourceConflictException")


def test_payloads_have_a_limit(functions: Any, function: Function) -> None:
    size = 6 * 1024**2
    function.run = lambda _, event, __: "x" * len(event)
    body = b'"' + b"x" * (size - 2) + b'"'
    answer = functions.invoke(FunctionName="f", Payload=body)
    assert (answer["StatusCode"], "FunctionError" in answer) == (200, False)
    for more in ({}, {"InvocationType": "Event"}):
        with pytest.raises(ClientError, match="payload is too large") as error:
            functions.invoke(FunctionName="f", Payload=body + b" ", **more)
        assert code_of(error) == (413, "RequestTooLargeException")
    function.run = lambda *_: "x" * (size + 200)
    answer = functions.invoke(FunctionName="f")
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Function.ResponseSizeTooLarge"


def test_lists_have_pages_and_no_states(functions: Any) -> None:
    for name in "abc":
        functions.create_alias(
            FunctionName="f", Name=name, FunctionVersion=publish(functions, name)
        )
    pages = list(functions.get_paginator("list_versions_by_function").paginate(FunctionName="f"))
    assert [len(page["Versions"]) for page in pages] == [2, 2, 1]
    assert not any("State" in version for page in pages for version in page["Versions"])
    aliases = functions.get_paginator("list_aliases")
    pages = list(aliases.paginate(FunctionName="f"))
    assert [alias["Name"] for page in pages for alias in page["Aliases"]] == ["live", *"abc"]
    (page,) = aliases.paginate(FunctionName="f", FunctionVersion="3")
    assert [alias["Name"] for alias in page["Aliases"]] == ["b"]


def test_invocation_tells_its_version_and_the_errors_of_the_function(functions: Any) -> None:
    answer = functions.invoke(FunctionName="f", Qualifier="live", Payload=b'"hello"')
    assert answer["ExecutedVersion"] == "1"
    assert json.loads(answer["Payload"].read()) == {
        "image": IMAGE("template"),
        "event": "hello",
        "qualifier": "live",
    }
    answer = functions.invoke(FunctionName="f", Qualifier="1", Payload=b'"fail"')
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"].read())["errorMessage"] == "no model"
    with pytest.raises(ClientError) as error:
        functions.invoke(FunctionName="f", Qualifier="9")
    assert code_of(error) == (404, "ResourceNotFoundException")
