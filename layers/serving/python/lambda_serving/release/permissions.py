"""That API Gateway may invoke a function's alias: a statement of its policy, in Lambda."""

import json
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import Aborted, NotFound
from lambda_serving.release.aws import explained

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

__all__ = ["Permissions"]

_STATEMENT = "api"
_ACTION = "lambda:InvokeFunction"
_PRINCIPAL = "apigateway.amazonaws.com"


class Permissions:
    """Of the API `api_id`, for paths that begin in some way.

    Every method raises what `aws.explained` says.
    """

    def __init__(self, api_id: str, client: "LambdaClient") -> None:
        self._api_id = api_id
        self._client = client

    def granted(self, function_arn: str, alias: str, path: str) -> bool:
        """Whether the policy of the alias says so, as `grant` has it."""
        return self._statement(function_arn, alias) == self._wanted(function_arn, alias, path)

    def grant(self, function_arn: str, alias: str, path: str) -> None:
        """Sees to it that the policy of the alias says so.

        A statement of the same name that says something else is replaced. Raises Aborted when
        Lambda refuses it because of what somebody else is at.
        """
        found, wanted = (
            self._statement(function_arn, alias),
            self._wanted(function_arn, alias, path),
        )
        if found == wanted:
            return
        if found is not None:
            with suppress(NotFound), self._explained(alias):
                self._client.remove_permission(
                    FunctionName=function_arn, Qualifier=alias, StatementId=_STATEMENT
                )
        try:
            with self._explained(alias):
                self._client.add_permission(
                    FunctionName=function_arn,
                    Qualifier=alias,
                    StatementId=_STATEMENT,
                    Action=_ACTION,
                    Principal=_PRINCIPAL,
                    SourceArn=self._source(function_arn, path),
                )
        except Aborted:  # somebody else was quicker, or Lambda is at something else
            if not self.granted(function_arn, alias, path):
                raise

    def _statement(self, function_arn: str, alias: str) -> Any:
        """What the policy says under our name, None if nothing."""
        try:
            with self._explained(alias):
                found = self._client.get_policy(FunctionName=function_arn, Qualifier=alias)
        except NotFound:
            return None
        statements = json.loads(found["Policy"])["Statement"]
        return next((each for each in statements if each.get("Sid") == _STATEMENT), None)

    def _wanted(self, function_arn: str, alias: str, path: str) -> Any:
        """The statement that Lambda makes of what `grant` asks for."""
        return {
            "Sid": _STATEMENT,
            "Effect": "Allow",
            "Principal": {"Service": _PRINCIPAL},
            "Action": _ACTION,
            "Resource": f"{function_arn}:{alias}",
            "Condition": {"ArnLike": {"AWS:SourceArn": self._source(function_arn, path)}},
        }

    def _source(self, function_arn: str, path: str) -> str:
        partition, region, account = (function_arn.split(":")[index] for index in (1, 3, 4))
        return f"arn:{partition}:execute-api:{region}:{account}:{self._api_id}/*/*{path}*"

    def _explained(self, alias: str) -> AbstractContextManager[None]:
        return explained(f"the policy of alias {alias}")
