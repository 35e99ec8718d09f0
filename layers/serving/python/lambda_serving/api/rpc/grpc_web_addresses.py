"""The addresses of gRPC-Web calls: the method's own path, or that path below a model's.

    /tensorflow.serving.PredictionService/Predict
    /v1/models/NAME[/versions/N|/labels/L]/grpc-web/tensorflow.serving.PredictionService/Predict

A client's base address is `https://HOST` or `https://HOST/v1/models/NAME/grpc-web`: gRPC-Web stubs
append the method's path to it. With the second, a router by URL such as API Gateway need not read
messages.
"""

import re
from typing import NamedTuple

from starlette.types import Scope

from lambda_serving.api.model_urls import NAME, VERSION_OR_LABEL, model_spec
from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ModelSpec

__all__ = ["Address", "read"]

_OWN = "/tensorflow.serving."
_BELOW = re.compile(rf"/v1/models/{NAME}{VERSION_OR_LABEL}/grpc-web(?P<method>/[^/]+/[^/]+)")


class Address(NamedTuple):
    """The path of a method, and the model that the URL names, if it names one."""

    method: str
    model: ModelSpec | None = None


def read(scope: Scope) -> Address | None:
    """The address of a gRPC-Web call; None for the path of anything else."""
    path: str = scope["path"]
    if path.startswith(_OWN):
        return Address(path)
    return _below_model(scope) if "/grpc-web/" in path else None


def _below_model(scope: Scope) -> Address | None:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    match = _BELOW.fullmatch(raw.decode("latin-1"))
    if match is None:
        return None
    try:
        return Address(match["method"], model_spec(match))
    except InvalidArgument:
        return None
