"""Whether a function version answers, and answers right, before any traffic goes there."""

import json
from http import HTTPStatus
from typing import Any

from lambda_serving import golden
from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ServableId
from lambda_serving.release.functions import ModelFunction

__all__ = ["trouble"]


def trouble(
    function: ModelFunction, function_version: int, servable: ServableId, pairs: bytes | None
) -> str | None:
    """Why that function version will not do as a model version, None if it will.

    It is asked for its state, for which it loads the model and runs its warm-up requests, then
    for the golden answers, if the model carries any. Raises what invoking raises.
    """
    path = f"/v1/models/{servable.name}/versions/{servable.version}"

    def ask(event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = function.invoke(function_version, event)
        return answer

    def predict(request: Any) -> Any:
        return ask({"path": f"{path}:predict", "body": json.dumps(request)}).get("body")

    try:
        expected = golden.read(pairs, golden.GOLDEN) if pairs else []
    except InvalidArgument as error:
        return str(error)
    try:
        state = ask({"path": path, "method": "GET"})
        if state.get("statusCode") != HTTPStatus.OK:
            return f"It does not answer: {state.get('body') or state.get('error')}"
        found = golden.check(expected, predict)
    except RuntimeError as error:
        return f"It does not answer: {error}"
    return f"It does not answer as it should: {found}" if found else None
