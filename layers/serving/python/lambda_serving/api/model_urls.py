"""The part of a URL that names a model, as REST and gRPC-Web have it.

    /v1/models/NAME[/versions/N|/labels/L]

Patterns match the path as sent, a byte a character; the name and the label are decoded afterwards,
percent-encoding and UTF-8.
"""

import re
from urllib.parse import unquote_to_bytes

from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ModelSpec

__all__ = ["NAME", "VERSION_OR_LABEL", "model_spec"]

NAME = r"(?P<name>[^/:]+)"
VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_LARGEST_VERSION = 2**63 - 1


def model_spec(match: re.Match[str]) -> ModelSpec:
    """The model that a match of `NAME` and `VERSION_OR_LABEL` names; its name may be empty.

    Raises InvalidArgument for a version that is not an int64, in TensorFlow Serving's words, and
    for a name or label that is not UTF-8.
    """
    version, label = _version(match["version"]), match["label"]
    return ModelSpec(
        _decoded(match["name"] or ""), version, None if label is None else _decoded(label)
    )


def _decoded(part: str) -> str:
    if "%" not in part and part.isascii():
        return part
    try:
        return unquote_to_bytes(part.encode("latin-1")).decode()
    except UnicodeError as error:
        raise InvalidArgument(
            f"The URL's model name or label {part!a} is not UTF-8, percent-encoded"
        ) from error


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(_LARGEST_VERSION)) or int(digits) > _LARGEST_VERSION:
        raise InvalidArgument(f"Failed to convert version: {text} to numeric.")
    return int(digits)
