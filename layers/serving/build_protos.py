"""Writes `messages.binpb`, the descriptors of the protocol messages that we read and write.

The generated modules of the wheels cannot be used at run time: importing any of them runs all of
`tensorflow/__init__.py` (seconds). Their descriptors hold the same facts in one small file.
Run by `make protos`, in an environment that has `tensorflow` and `tensorflow-serving-api`.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import wrappers_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

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
_OUT = Path(__file__).parent / "python/lambda_serving/protos/messages.binpb"

_INT64 = ".google.protobuf.Int64Value"
_SSL_CONFIG = {
    "server_key": "string",
    "server_cert": "string",
    "custom_ca": "string",
    "client_verify": "bool",
}
_PROMETHEUS_CONFIG = {"enable": "bool", "path": "string"}
_MONITORING_CONFIG = {"prometheus_config": ".tensorflow.serving.PrometheusConfig"}
_BATCHING_PARAMETERS = {
    "max_batch_size": _INT64,
    "batch_timeout_micros": _INT64,
    "max_enqueued_batches": _INT64,
    "num_batch_threads": _INT64,
    "thread_pool_name": ".google.protobuf.StringValue",
    "allowed_batch_sizes": "repeated int64",
    "pad_variable_length_inputs": "bool",
    "enable_large_batch_splitting": ".google.protobuf.BoolValue",
    "max_execution_batch_size": _INT64,
}
# These two configure a session as bytes: their own fields do not matter here.
_SAVED_MODEL_CONFIG = {"session_overrides": ".tensorflow.serving.SessionOverrides"}
_SESSION_OVERRIDES = {
    "remote_op_remap_config": "bytes",
    "batch_op_rewriter_config": "bytes",
    "disable_meta_optimizer": "bool",
}


def main() -> None:
    files: dict[str, FileDescriptor] = {}
    for module in _MODULES:
        _collect(importlib.import_module(module).DESCRIPTOR, files)
    _collect(wrappers_pb2.DESCRIPTOR, files)
    descriptors = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptors.file.add())
    descriptors.file.extend(_not_in_the_wheels())
    _OUT.write_bytes(descriptors.SerializeToString(deterministic=True))


def _collect(file: FileDescriptor, into: dict[str, FileDescriptor]) -> None:
    """Adds `file` behind everything that it imports: the order a descriptor pool needs."""
    for dependency in file.dependencies:
        _collect(dependency, into)
    into.setdefault(file.name, file)


def _not_in_the_wheels() -> list[FileDescriptorProto]:
    """Messages that only TensorFlow Serving's source has."""
    return [
        _file("config/ssl_config", {"SSLConfig": _SSL_CONFIG}),
        _file(
            "config/monitoring_config",
            {"PrometheusConfig": _PROMETHEUS_CONFIG, "MonitoringConfig": _MONITORING_CONFIG},
        ),
        _file(
            "servables/tensorflow/session_bundle_config",
            {"BatchingParameters": _BATCHING_PARAMETERS},
        ),
        _file(
            "servables/tensorflow/saved_model_config",
            {"SessionOverrides": _SESSION_OVERRIDES, "SavedModelConfig": _SAVED_MODEL_CONFIG},
            syntax="proto2",  # which fields are set matters
        ),
    ]


def _file(
    name: str, messages: Mapping[str, Mapping[str, str]], syntax: str = "proto3"
) -> FileDescriptorProto:
    """A file of messages, whose fields are numbered in their order."""
    file = FileDescriptorProto(
        name=f"tensorflow_serving/{name}.proto",
        package="tensorflow.serving",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
        syntax=syntax,
    )
    for message, types in messages.items():
        _add_message(file, message, types)
    return file


def _add_message(file: FileDescriptorProto, message: str, types: Mapping[str, str]) -> None:
    descriptor = file.message_type.add(name=message)
    for number, (field, text) in enumerate(types.items(), 1):
        added = descriptor.field.add(name=field, number=number)
        label, _, kind = text.rpartition(" ")
        added.label = FieldDescriptorProto.Label.Value(f"LABEL_{(label or 'optional').upper()}")
        if kind.startswith("."):
            added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, kind
        else:
            added.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


if __name__ == "__main__":
    main()
