"""The URL grammar: what a method and a target ask for.

Source: model_servers/http_rest_api_util.cc and http_rest_api_handler.cc. Matched is the path as
sent, query included; the name and the label are percent-decoded afterwards.
"""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ModelSpec

__all__ = ["Call", "Verb", "parse"]

_MAX_VERSION = 2**63 - 1
_VERSION_OR_LABEL = r"(?:(?:/versions/(?P<version>[0-9]+))|(?:/labels/(?P<label>[^/:]+)))?"
_POST = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>classify|regress|predict)",
    re.IGNORECASE,
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION_OR_LABEL}(?:/(?P<verb>metadata))?",
    re.IGNORECASE,
)
_PATTERNS = {"POST": _POST, "GET": _GET}


class Verb(Enum):
    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    METADATA = "metadata"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the grammar knows."""

    verb: Verb
    spec: ModelSpec


def parse(method: str, target: str) -> Call:
    """The call that `method` and `target` (path and query as sent) stand for.

    Raises InvalidArgument for anything else, wrong methods included.
    """
    pattern = _PATTERNS.get(method)
    match = pattern.fullmatch(target) if pattern else None
    version = _version(match["version"]) if match else None
    verb = _verb(method, match["verb"]) if match else None
    if match is None or verb is None:
        raise InvalidArgument(f"Malformed request: {method} {target}")
    if not match["name"]:
        raise InvalidArgument("Missing model name in request.")
    label = match["label"]
    return Call(
        verb, ModelSpec(unquote(match["name"]), version, None if label is None else unquote(label))
    )


def _verb(method: str, text: str | None) -> Verb | None:
    """Only lower-case words count; a GET of any other spelling is a status call."""
    if method == "GET":
        return Verb.METADATA if text == Verb.METADATA.value else Verb.STATUS
    return next((verb for verb in Verb if verb.value == text), None)


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text.lstrip("0")) > len(str(_MAX_VERSION)) or int(text) > _MAX_VERSION:
        raise InvalidArgument(f"Failed to convert version: {text} to numeric.")
    return int(text)
