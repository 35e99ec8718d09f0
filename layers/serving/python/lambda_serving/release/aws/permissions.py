"""The statement in an alias's policy that lets API Gateway invoke it."""

import json
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import NotFound
from lambda_serving.release.aws.clients import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

__all__ = ["Permissions"]

_STATEMENT = "api"
_ACTION = "lambda:InvokeFunction"
_PRINCIPAL = "apigateway.amazonaws.com"


class Permissions:
    """Permissions of the API `api_id` for all paths with a given beginning.

    Every method raises what `translate_errors` raises.
    """

    def __init__(self, api_id: str, client: "LambdaClient") -> None:
        self._api_id = api_id
        self._client = client

    def granted(self, function_arn: str, alias: str, path: str) -> bool:
        """Whether the alias's policy has the statement that `grant` writes."""
        found = self._statement(function_arn, alias)
        return found is not None and _says(found, self._source(function_arn, path))

    def grant(self, function_arn: str, alias: str, path: str) -> None:
        """Writes the statement, unless the alias's policy has it already.

        A statement of the same name that says something else is replaced. Raises Aborted when
        somebody else changes the policy or the function: the next look compares the policy again.
        """
        found, source = self._statement(function_arn, alias), self._source(function_arn, path)
        if found is not None and _says(found, source):
            return
        if found is not None:
            with suppress(NotFound), self._translate_errors(alias):
                self._client.remove_permission(
                    FunctionName=function_arn, Qualifier=alias, StatementId=_STATEMENT
                )
        with self._translate_errors(alias):
            self._client.add_permission(
                FunctionName=function_arn,
                Qualifier=alias,
                StatementId=_STATEMENT,
                Action=_ACTION,
                Principal=_PRINCIPAL,
                SourceArn=source,
            )

    def _statement(self, function_arn: str, alias: str) -> Any:
        """The policy's statement with our id, None if there is none."""
        try:
            with self._translate_errors(alias):
                found = self._client.get_policy(FunctionName=function_arn, Qualifier=alias)
        except NotFound:
            return None
        statements = json.loads(found["Policy"])["Statement"]
        return next((each for each in statements if each.get("Sid") == _STATEMENT), None)

    def _source(self, function_arn: str, path: str) -> str:
        partition, region, account = (function_arn.split(":")[index] for index in (1, 3, 4))
        return f"arn:{partition}:execute-api:{region}:{account}:{self._api_id}/*/*{path}*"

    def _translate_errors(self, alias: str) -> AbstractContextManager[None]:
        return translate_errors(f"the policy of alias {alias}")


def _says(statement: Any, source: str) -> bool:
    """Whether a statement lets API Gateway invoke for these paths, and nothing else."""
    told = {
        (operator, key.lower()): value
        for operator, condition in statement.get("Condition", {}).items()
        for key, value in condition.items()
    }
    return (
        statement.get("Effect") == "Allow"
        and statement.get("Action") == _ACTION
        and statement.get("Principal") == {"Service": _PRINCIPAL}
        and told == {("ArnLike", "aws:sourcearn"): source}
    )
