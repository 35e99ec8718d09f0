"""Lambda's operations on aliases and on policies, which say who may invoke what.

Sources: botocore's service model; the developer guide on aliases; LocalStack's tests, validated
against AWS, for the messages of refusals.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from support.aws_plane.function import Alias, Function, Version
from support.aws_plane.functions import Given, named, page
from support.aws_plane.plane import Plane
from support.aws_plane.refused import Refused, conflict, invalid, not_found, outdated

__all__ = ["OPERATIONS"]

_POLICY_BYTES = 20 * 1024


def _create(plane: Plane, given: Given) -> Given:
    function, name = named(plane, given), given["Name"]
    number = _number(function, given["FunctionVersion"])
    if name in function.aliases:
        raise conflict(f"Alias already exists: {function.arn(name)}")
    if len(function.aliases) >= plane.most_aliases:
        raise Refused(400, "AliasLimitExceededException", "Alias limit exceeded")
    weights = _weights(function, given) or {}
    _check_weights(number, weights)
    function.point(name, number, weights).description = given.get("Description", "")
    return _told(function, name)


def _get(plane: Plane, given: Given) -> Given:
    function = named(plane, given)
    _alias(function, given["Name"])
    return _told(function, given["Name"])


def _list(plane: Plane, given: Given) -> Given:
    """The aliases of one version, as their main version."""
    function, asked = named(plane, given), given.get("FunctionVersion")
    for name in function.provisioned:
        function.look_at(name)
    every = [
        _told(function, name)
        for name, alias in function.aliases.items()
        if asked in {None, str(alias.function_version)}
    ]
    return page(given, "Aliases", every)


def _update(plane: Plane, given: Given) -> Given:
    function, name = named(plane, given), given["Name"]
    alias = _alias(function, name)
    _check_revision(given, alias.revision)
    number = _number(function, given.get("FunctionVersion", str(alias.function_version)))
    weights = _weights(function, given)
    _check_weights(number, alias.weights if weights is None else weights)
    alias.description = given.get("Description", alias.description)
    function.point(name, number, weights)
    return _told(function, name)


def _delete(plane: Plane, given: Given) -> Given:
    """Deletes an alias, if it exists, and its policy."""
    function = named(plane, given)
    function.aliases.pop(given["Name"], None)
    function.policies.pop(given["Name"], None)
    return {}


def _alias(function: Function, name: str) -> Alias:
    if name not in function.aliases:
        raise not_found(f"Cannot find alias arn: {function.arn(name)}")
    return function.aliases[name]


def _number(function: Function, asked: str) -> int:
    assert asked != "$LATEST", "aliases of code that may change are not stood in for"
    function.find(asked)
    return int(asked)


def _weights(function: Function, given: Given) -> dict[int, float] | None:
    """The requested weights; None if the request has none."""
    asked = given.get("RoutingConfig", {}).get("AdditionalVersionWeights")
    if asked is None:
        return {} if "RoutingConfig" in given else None
    return {_number(function, number): weight for number, weight in asked.items()}


def _check_weights(number: int, weights: Mapping[int, float]) -> None:
    if len(weights) > 1:
        raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    if number in weights:
        raise invalid(
            f"Invalid function version {number}. Function version {number} is already included in"
            " routing configuration."
        )
    if any(weight >= 1 for weight in weights.values()):
        raise Refused(400, "ValidationException", "Member must have value less than 1.0")


def _get_provisioned(plane: Plane, given: Given) -> Given:
    function, name = named(plane, given), given["Qualifier"]
    if name not in function.provisioned:
        raise Refused(
            404,
            "ProvisionedConcurrencyConfigNotFoundException",
            "No Provisioned Concurrency Config found for this function",
        )
    return {"Status": "READY" if function.look_at(name) else "IN_PROGRESS"}


def _told(function: Function, name: str) -> dict[str, Any]:
    alias = function.aliases[name]
    weights = {str(number): weight for number, weight in alias.weights.items()}
    return {
        "AliasArn": function.arn(name),
        "Name": name,
        "FunctionVersion": str(alias.function_version or "$LATEST"),
        "Description": alias.description,
        "RevisionId": str(alias.revision),
        **({"RoutingConfig": {"AdditionalVersionWeights": weights}} if weights else {}),
    }


def _add_permission(plane: Plane, given: Given) -> Given:
    function, qualifier = named(plane, given), given.get("Qualifier", "")
    holder = _holder(function, qualifier)
    statements = function.policies.get(qualifier, {})
    name = given["StatementId"]
    if name in statements:
        raise conflict(
            f"The statement id ({name}) provided already exists. Please provide a new statement"
            " id, or remove the existing statement."
        )
    _check_revision(given, holder.revision)
    more = {**statements, name: _statement(given, function.arn(qualifier))}
    if len(_policy(more)) > _POLICY_BYTES:
        raise Refused(
            400, "PolicyLengthExceededException", "The final policy size is bigger than the limit"
        )
    function.policies[qualifier] = more
    holder.revision += 1
    return {"Statement": json.dumps(more[name])}


def _remove_permission(plane: Plane, given: Given) -> Given:
    function, qualifier = named(plane, given), given.get("Qualifier", "")
    holder = _holder(function, qualifier)
    _check_revision(given, holder.revision)
    statements = function.policies.get(qualifier, {})
    if given["StatementId"] not in statements:
        raise not_found(f"Statement {given['StatementId']} is not found in resource policy.")
    del statements[given["StatementId"]]
    holder.revision += 1
    return {}


def _get_policy(plane: Plane, given: Given) -> Given:
    function, qualifier = named(plane, given), given.get("Qualifier", "")
    holder = _holder(function, qualifier)
    if not (statements := function.policies.get(qualifier)):
        raise not_found("The resource you requested does not exist.")
    return {"Policy": _policy(statements), "RevisionId": str(holder.revision)}


def _holder(function: Function, qualifier: str) -> Alias | Version:
    """The owner of the policy, whose revision is the policy's."""
    if qualifier == "$LATEST":
        raise invalid("We currently do not support adding policies for $LATEST.")
    return function.aliases.get(qualifier) or function.find(qualifier or "$LATEST")[1]


def _check_revision(given: Given, revision: int) -> None:
    if given.get("RevisionId", str(revision)) != str(revision):
        raise outdated()


def _statement(given: Given, arn: str) -> dict[str, Any]:
    service = given["Principal"].endswith(".amazonaws.com")
    conditions = {
        "StringEquals": ("AWS:SourceAccount", given.get("SourceAccount")),
        "ArnLike": ("AWS:SourceArn", given.get("SourceArn")),
    }
    condition = {test: {key: value} for test, (key, value) in conditions.items() if value}
    return {
        "Sid": given["StatementId"],
        "Effect": "Allow",
        "Principal": {"Service" if service else "AWS": given["Principal"]},
        "Action": given["Action"],
        "Resource": arn,
        **({"Condition": condition} if condition else {}),
    }


def _policy(statements: Mapping[str, Any]) -> str:
    document = {"Version": "2012-10-17", "Id": "default", "Statement": [*statements.values()]}
    return json.dumps(document)


OPERATIONS: Mapping[str, Callable[[Plane, Given], Given]] = {
    "AddPermission": _add_permission,
    "CreateAlias": _create,
    "DeleteAlias": _delete,
    "GetAlias": _get,
    "GetPolicy": _get_policy,
    "GetProvisionedConcurrencyConfig": _get_provisioned,
    "ListAliases": _list,
    "RemovePermission": _remove_permission,
    "UpdateAlias": _update,
}
