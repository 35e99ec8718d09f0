"""Policies grant something in every statement, and are read as IAM reads them."""

from typing import Any

import pytest

from support import iam
from support.iam.policies import allows
from support.iam.reference import useless

_VALUES = {
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "system-X",
    "ApiId": "api",
    "Inputs": "inputs",
    "ModelName": "MLP",
    "Models": "bucket",
    "Outputs": "outputs",
    "Repository": "models",
    "System": "system",
}
_FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:system-"
_GROUP = "arn:aws:codedeploy:eu-west-1:123456789012:deploymentgroup:system/"


@pytest.mark.parametrize("template", ["batch", "gpu", "model", "release"])
def test_every_statement_grants_something(template: str) -> None:
    roles = iam.roles(template, _VALUES)
    assert roles
    complaints = {
        f"{name}: {complaint}"
        for name, role in roles.items()
        for statement in role.statements
        for complaint in useless(statement)
    }
    assert complaints == set()


@pytest.mark.parametrize(
    ("action", "resource", "condition", "complaint"),
    [
        ("lambda:DeleteFunction", f"{_FUNCTION}*:*", None, "on none of"),  # nor on a version
        ("codedeploy:StopDeployment", f"{_GROUP}*", None, "on none of"),  # on no resource at all
        ("lambda:DeleteVersion", f"{_FUNCTION}*", None, "no such action"),
        ("lambda:GetFunction", f"{_FUNCTION}*", "lambda:Principal", "knows no condition"),
        ("s3:GetObject", "arn:aws:s3:::bucket", None, "on none of"),
        ("s3:ListBucket", "arn:aws:s3:::bucket/*", None, "on none of"),
        ("s3:GetObject", "arn:aws:s3:::bucket/*", "s3:prefix", "knows no condition"),
        ("ecr:GetAuthorizationToken", "arn:aws:ecr:eu-west-1:1:repository/a", None, "on none of"),
        ("logs:PutLogEvents", "arn:aws:logs:eu-west-1:1:log-group:a", None, "on none of"),
    ],
)
def test_statement_that_grants_nothing_is_reported(
    action: str, resource: str, condition: str | None, complaint: str
) -> None:
    statement: dict[str, Any] = {"Action": action, "Resource": resource}
    if condition:
        statement["Condition"] = {"StringEquals": {condition: "x"}}
    assert any(complaint in each for each in useless(statement))


@pytest.mark.parametrize(
    ("statement", "context", "allowed"),
    [
        ({}, {}, True),
        ({"Action": ["s3:get*"]}, {}, True),
        ({"Action": "s3:PutObject"}, {}, False),
        ({"Resource": "arn:aws:s3:::b/?/c"}, {}, True),
        ({"Resource": "arn:aws:s3:::b/?"}, {}, False),
        ({"Resource": "arn:aws:s3:::b/${aws:PrincipalTag/m}/c"}, {"aws:PrincipalTag/m": "a"}, True),
        (
            {"Resource": "arn:aws:s3:::b/${aws:PrincipalTag/m}/c"},
            {"aws:principaltag/m": "*"},
            False,
        ),
        ({"Resource": "arn:aws:s3:::b/${aws:PrincipalTag/m}/c"}, {}, False),
        ({"Condition": {"StringEquals": {"k": "v"}}}, {}, False),
        ({"Condition": {"StringEquals": {"k": ["u", "v"]}}}, {"K": "v"}, True),
        ({"Condition": {"StringEquals": {"k": "v*"}}}, {"k": "vw"}, False),
        ({"Condition": {"StringLike": {"k": "v*"}}}, {"k": "vw"}, True),
        ({"Condition": {"StringLike": {"k": "?*"}}}, {"k": ""}, False),
        ({"Condition": {"StringLike": {"k": "v"}, "StringEquals": {"l": "w"}}}, {"k": "v"}, False),
        ({"Effect": "Deny"}, {}, False),
    ],
)
def test_statement_is_read_as_iam_does(
    *, statement: dict[str, Any], context: dict[str, str], allowed: bool
) -> None:
    whole = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", **statement}
    assert allows([whole], "s3:GetObject", "arn:aws:s3:::b/a/c", context) == allowed


@pytest.mark.parametrize(
    "operator",
    ["StringEqualsIfExists", "ForAllValues:StringEquals", "ForAnyValue:StringLike", "Null"],
)
@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject"])
def test_operator_that_nobody_knows_here_is_told_wherever_it_is(operator: str, action: str) -> None:
    statement = {"Effect": "Allow", "Action": action, "Condition": {operator: {"k": "v"}}}
    with pytest.raises(AssertionError, match=f"does not know the operator {operator}"):
        allows([statement], "s3:GetObject", "arn:aws:s3:::b/a", {"k": "v"})


def test_denial_overrides_an_allowing_statement() -> None:
    statement = {"Action": "s3:*", "Resource": "*"}
    both = [{"Effect": "Allow", **statement}, {"Effect": "Deny", **statement}]
    assert not allows(both, "s3:GetObject", "arn:aws:s3:::b/a", {})
