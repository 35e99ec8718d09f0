"""The URL grammar: what a method and a target ask for.

Source: model_servers/http_rest_api_util.cc and http_rest_api_handler.cc. Patterns match the path as
sent, query included.
"""

import re
from enum import Enum
from typing import NamedTuple

from lambda_serving.api.model_urls import NAME, VERSION_OR_LABEL, model_spec
from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ModelSpec

__all__ = ["Call", "Verb", "parse"]

_POST = re.compile(
    rf"/v1/models/{NAME}{VERSION_OR_LABEL}:(?P<verb>classify|regress|predict)", re.IGNORECASE
)
_GET = re.compile(
    rf"/v1/models(?:/{NAME})?{VERSION_OR_LABEL}(?:/(?P<verb>metadata))?", re.IGNORECASE
)
_PATTERNS = {"POST": _POST, "GET": _GET}


class Verb(Enum):
    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    METADATA = "metadata"
    STATUS = "status"


_VERBS: dict[str | None, Verb] = {verb.value: verb for verb in Verb}


class Call(NamedTuple):
    """A request that the grammar knows."""

    verb: Verb
    spec: ModelSpec


def parse(method: str, target: str) -> Call:
    """The call that `method` and `target` (path and query as sent) stand for.

    Raises InvalidArgument for anything else, wrong methods included.
    """
    pattern = _PATTERNS.get(method)
    match = pattern.fullmatch(target) if pattern else None
    spec = model_spec(match) if match else None
    verb = _verb(method, match["verb"]) if match else None
    if spec is None or verb is None:
        raise InvalidArgument(f"Malformed request: {method} {target}")
    if not spec.name:
        raise InvalidArgument("Missing model name in request.")
    return Call(verb, spec)


def _verb(method: str, text: str | None) -> Verb | None:
    """Only words in lower case count; a GET with any other spelling is a status call."""
    if method == "GET":
        return Verb.METADATA if text == "metadata" else Verb.STATUS
    return _VERBS.get(text)
