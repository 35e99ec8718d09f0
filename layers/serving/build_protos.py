"""Writes `lambda_serving/protos.binpb`, the descriptors of the protocol messages we read and write.

The generated modules of the wheels cannot be used at run time: importing any of them runs all of
`tensorflow/__init__.py` (seconds). Their descriptors hold the same facts in one small file.
Run by `make protos`, in an environment that has `tensorflow` and `tensorflow-serving-api`.
"""

import importlib
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

_MODULES = (
    "tensorflow.core.protobuf.config_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow.core.protobuf.saved_object_graph_pb2",
    "tensorflow.core.example.example_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.model_management_pb2",
    "tensorflow_serving.config.model_server_config_pb2",
)
_NOT_IN_THE_WHEEL = {
    "name": "tensorflow_serving/config/ssl_config.proto",
    "package": "tensorflow.serving",
    "syntax": "proto3",
    "message_type": [
        {
            "name": "SSLConfig",
            "field": [
                {"name": "server_key", "number": 1, "type": "TYPE_STRING"},
                {"name": "server_cert", "number": 2, "type": "TYPE_STRING"},
                {"name": "custom_ca", "number": 3, "type": "TYPE_STRING"},
                {"name": "client_verify", "number": 4, "type": "TYPE_BOOL"},
            ],
        }
    ],
}
_OUT = Path(__file__).parent / "python/lambda_serving/protos.binpb"


def main() -> None:
    files: dict[str, FileDescriptor] = {}
    for module in _MODULES:
        _collect(importlib.import_module(module).DESCRIPTOR, files)
    descriptors = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptors.file.add())
    json_format.ParseDict(_NOT_IN_THE_WHEEL, descriptors.file.add())
    _OUT.write_bytes(descriptors.SerializeToString(deterministic=True))


def _collect(file: FileDescriptor, into: dict[str, FileDescriptor]) -> None:
    """Adds `file` behind everything that it imports: the order a descriptor pool needs."""
    for dependency in file.dependencies:
        _collect(dependency, into)
    into.setdefault(file.name, file)


if __name__ == "__main__":
    main()
