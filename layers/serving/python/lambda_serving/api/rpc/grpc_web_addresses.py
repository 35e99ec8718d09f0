"""Where a gRPC-Web call is sent: the method's own path, or that path below one of a model's.

    /tensorflow.serving.PredictionService/Predict
    /v1/models/NAME[/versions/N|/labels/L]/grpc-web/tensorflow.serving.PredictionService/Predict

A client's base address is `https://HOST` or `https://HOST/v1/models/NAME/grpc-web`: stubs of
gRPC-Web append the method's path to it. What routes by URL, as API Gateway does, then needs to
read no message.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.types import Scope

from lambda_serving.model_spec import ModelSpec

__all__ = ["Address", "read"]

_OWN = "/tensorflow.serving."
_BELOW = re.compile(
    r"/v1/models/(?P<name>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]{1,19})|/labels/(?P<label>[^/:]+))?"
    r"/grpc-web(?P<method>/[^/]+/[^/]+)"
)
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Address:
    """A method by its own path, and the model that the URL names, if it names one."""

    method: str
    model: ModelSpec | None = None


def read(scope: Scope) -> Address | None:
    """The address of a gRPC-Web call; None for the path of anything else."""
    path: str = scope["path"]
    if path.startswith(_OWN):
        return Address(path)
    return _below_model(scope) if "/grpc-web/" in path else None


def _below_model(scope: Scope) -> Address | None:
    """Names are percent-decoded after the path as sent is matched, as those of REST are."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    match = _BELOW.fullmatch(raw.decode("latin-1"))
    if match is None:
        return None
    version, label = match["version"], match["label"]
    if version and int(version) > _MAX_VERSION:
        return None
    return Address(
        match["method"],
        ModelSpec(
            unquote(match["name"]),
            int(version) if version else None,
            unquote(label) if label else None,
        ),
    )
