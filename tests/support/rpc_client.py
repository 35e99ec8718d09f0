"""TensorFlow Serving's methods as a client calls them, with our own messages."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from lambda_serving import protos
from lambda_serving.dtypes import Array
from lambda_serving.protos.tensor_proto import fill, to_array

__all__ = [
    "METHODS",
    "arrays",
    "call",
    "example_request",
    "free_port",
    "message",
    "path_of",
    "predict_request",
]

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
METHODS = {
    "Predict": (_PREDICTION, "PredictRequest", "PredictResponse"),
    "Classify": (_PREDICTION, "ClassificationRequest", "ClassificationResponse"),
    "Regress": (_PREDICTION, "RegressionRequest", "RegressionResponse"),
    "MultiInference": (_PREDICTION, "MultiInferenceRequest", "MultiInferenceResponse"),
    "GetModelMetadata": (_PREDICTION, "GetModelMetadataRequest", "GetModelMetadataResponse"),
    "GetModelStatus": (_MODEL, "GetModelStatusRequest", "GetModelStatusResponse"),
    "HandleReloadConfigRequest": (_MODEL, "ReloadConfigRequest", "ReloadConfigResponse"),
}
"""The path's beginning, the request and the response of each method, by name."""


def path_of(method: str) -> str:
    return METHODS[method][0] + method


def message(name: str, fields: Mapping[str, Any]) -> Any:
    """A message of `tensorflow.serving` by the JSON of its fields."""
    from google.protobuf.json_format import ParseDict

    parsed = protos.message(f"tensorflow.serving.{name}")()
    return ParseDict(dict(fields), parsed, descriptor_pool=parsed.DESCRIPTOR.file.pool)


def call(channel: grpc.Channel, method: str, request: Any, **options: Any) -> Any:
    """The response to a message, or to bytes as they are; raises grpc.RpcError."""
    response = protos.message(f"tensorflow.serving.{METHODS[method][2]}")
    callable_ = channel.unary_unary(path_of(method), _serialize, response.FromString)
    return callable_(request, **options)


def predict_request(
    model: str, inputs: Mapping[str, Any], output_filter: Sequence[str] = (), **spec: Any
) -> Any:
    """`PredictRequest` of float32 unless an input is an array; `spec` as JSON has it."""
    request = message("PredictRequest", {"modelSpec": {"name": model, **spec}})
    request.output_filter.extend(output_filter)
    for name, value in inputs.items():
        array = value if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
        fill(request.inputs[name], array)
    return request


def example_request(name: str, spec: Mapping[str, Any], *examples: Mapping[str, Any]) -> Any:
    """A request of examples, each as JSON has its features."""
    listed = [{"features": {"feature": dict(features)}} for features in examples]
    return message(name, {"modelSpec": spec, "input": {"exampleList": {"examples": listed}}})


def arrays(response: Any) -> dict[str, Array]:
    """The outputs of a `PredictResponse`."""
    return {name: to_array(proto) for name, proto in response.outputs.items()}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _serialize(request: Any) -> bytes:
    serialized: bytes = request if isinstance(request, bytes) else request.SerializeToString()
    return serialized
