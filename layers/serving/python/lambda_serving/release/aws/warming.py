"""Checks that a function version answers, and answers correctly, before it gets any traffic."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ServableId
from lambda_serving.release import golden
from lambda_serving.release.aws.lambda_functions import ModelFunction

__all__ = ["SECONDS", "Asked", "ask"]

SECONDS = 20.0
"""No further golden pair is sent after this time: the last one may take another half minute, and a
run of the release function has two minutes, in which it also looks at other versions."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How many golden pairs matched so far, and how many are left.

    `trouble` is why the function version has failed.
    """

    answered: int = 0
    left: int = 0
    trouble: str | None = None


def ask(
    function: ModelFunction,
    function_version: int,
    servable: ServableId,
    pairs: bytes | None,
    answered: int,
    clock: Callable[[], float],
) -> Asked:
    """Invokes a function version as a model version, for `SECONDS` or at least one golden pair.

    The first request is for the status, for which it loads the model and runs its warm-up requests.
    Then come the golden pairs, if the model has any. With `answered`, the status and that many
    pairs were answered in an earlier run. Raises what invoking raises.
    """
    path, started = f"/v1/models/{servable.name}/versions/{servable.version}", clock()

    def send(event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = function.invoke(function_version, event)
        return answer

    try:
        expected = golden.read(pairs, golden.GOLDEN) if pairs else []
    except InvalidArgument as error:
        return Asked(trouble=str(error))
    try:
        state = send({"path": path, "method": "GET"}) if not answered else {"statusCode": 200}
        if state.get("statusCode") != HTTPStatus.OK:
            return Asked(trouble=f"It does not answer: {_reason(state)}")
        for pair in expected[answered:]:
            answer = send({"path": f"{path}:predict", "body": pair.request}).get("body")
            if found := golden.difference(pair, answer):
                return Asked(trouble=f"It does not answer as it should: {found}")
            answered += 1
            if clock() - started > SECONDS:
                break
    except RuntimeError as error:
        return Asked(trouble=f"It does not answer: {error}")
    return Asked(answered, max(0, len(expected) - answered))


def _reason(answer: Mapping[str, Any]) -> str:
    """What an answer says of its error, in words."""
    told = answer.get("body") or answer.get("error")
    if isinstance(told, dict):
        told = told.get("error") or json.dumps(told)
    return str(told)
