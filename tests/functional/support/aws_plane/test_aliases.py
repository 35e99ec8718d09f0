"""Aliases and their policies keep Lambda's rules, as boto3 finds them."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.aws_plane import Function, Plane
from support.plane_clients import IMAGE, code_of, publish


def test_aliases_have_a_limit(functions: Any, plane: Plane) -> None:
    plane.most_aliases = 2
    functions.create_alias(FunctionName="f", Name="a", FunctionVersion="1")
    with pytest.raises(ClientError) as error:
        functions.create_alias(FunctionName="f", Name="b", FunctionVersion="1")
    assert code_of(error) == (400, "AliasLimitExceededException")


def test_provisioned_concurrency_keeps_traffic_where_it_was_until_it_is_allocated(
    functions: Any, function: Function
) -> None:
    live = {"FunctionName": "f", "Qualifier": "live"}
    with pytest.raises(ClientError) as error:
        functions.get_provisioned_concurrency_config(**live)
    assert code_of(error) == (404, "ProvisionedConcurrencyConfigNotFoundException")
    version = publish(functions, "a")
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


def test_alias_moves_for_who_has_its_revision_and_keeps_its_weights(
    functions: Any, function: Function
) -> None:
    live = {"FunctionName": "f", "Name": "live"}
    version = publish(functions, "a")
    revision = functions.get_alias(**live)["RevisionId"]
    routing = {"AdditionalVersionWeights": {version: 0.25}}
    functions.update_alias(**live, RoutingConfig=routing, RevisionId=revision)
    with pytest.raises(ClientError) as error:
        functions.update_alias(**live, FunctionVersion="2", RevisionId=revision)
    assert code_of(error) == (412, "PreconditionFailedException")
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
    assert code_of(error) == expected


def test_alias_is_deleted_once_or_twice(functions: Any) -> None:
    functions.delete_alias(FunctionName="f", Name="live")
    functions.delete_alias(FunctionName="f", Name="live")
    with pytest.raises(ClientError) as error:
        functions.get_alias(FunctionName="f", Name="live")
    assert code_of(error) == (404, "ResourceNotFoundException")


def test_version_that_an_alias_or_its_weight_points_to_is_not_deleted(
    functions: Any, function: Function
) -> None:
    publish(functions, "a")
    publish(functions, "b")
    function.point("live", 1, {2: 0.1})
    for version in ("1", "2"):
        with pytest.raises(ClientError, match=r"following aliases reference it: \[live\]") as error:
            functions.delete_function(FunctionName="f", Qualifier=version)
        assert code_of(error) == (409, "ResourceConflictException")
    for _ in range(2):  # deleting what is gone is no error
        functions.delete_function(FunctionName="f", Qualifier="3")
    assert function.versions.keys() == {1, 2}


def test_alias_shares_its_invocations_by_weight(functions: Any, function: Function) -> None:
    publish(functions, "a")
    function.point("live", 1, {2: 0.25})
    images = [function.invoke({})["image"] for _ in range(400)]
    assert 60 < images.count(IMAGE("a")) < 140


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
    assert code_of(error) == (409, "ResourceConflictException")
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
        assert code_of(error) == (404, "ResourceNotFoundException")
