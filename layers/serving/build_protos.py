"""Writes `lambda_serving/protos.binpb`, the descriptors of the protocol messages we read and write.

The generated modules of the wheels cannot be used at run time: importing any of them runs all of
`tensorflow/__init__.py` (seconds). Their descriptors hold the same facts in one small file.
Run by `make protos`, in an environment that has `tensorflow` and `tensorflow-serving-api`.
"""

import importlib
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
_BATCHING = "tensorflow_serving/servables/tensorflow/session_bundle_config.proto"
"""Not in the wheel: `BatchingParameters` of it, written here. It is only ever read as text."""
_BATCHING_FIELDS: dict[str, str | FieldDescriptorProto.Type.ValueType] = {
    "max_batch_size": ".google.protobuf.Int64Value",
    "batch_timeout_micros": ".google.protobuf.Int64Value",
    "max_enqueued_batches": ".google.protobuf.Int64Value",
    "num_batch_threads": ".google.protobuf.Int64Value",
    "thread_pool_name": ".google.protobuf.StringValue",
    "allowed_batch_sizes": FieldDescriptorProto.TYPE_INT64,
    "pad_variable_length_inputs": FieldDescriptorProto.TYPE_BOOL,
    "enable_large_batch_splitting": ".google.protobuf.BoolValue",
    "max_execution_batch_size": ".google.protobuf.Int64Value",
}
_OUT = Path(__file__).parent / "python/lambda_serving/protos.binpb"


def main() -> None:
    files: dict[str, FileDescriptor] = {}
    for module in _MODULES:
        _collect(importlib.import_module(module).DESCRIPTOR, files)
    _collect(wrappers_pb2.DESCRIPTOR, files)
    descriptors = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptors.file.add())
    descriptors.file.append(_batching())
    _OUT.write_bytes(descriptors.SerializeToString(deterministic=True))


def _collect(file: FileDescriptor, into: dict[str, FileDescriptor]) -> None:
    """Adds `file` behind everything that it imports: the order a descriptor pool needs."""
    for dependency in file.dependencies:
        _collect(dependency, into)
    into.setdefault(file.name, file)


def _batching() -> FileDescriptorProto:
    file = FileDescriptorProto(
        name=_BATCHING,
        package="tensorflow.serving",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
        syntax="proto3",
    )
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, kind) in enumerate(_BATCHING_FIELDS.items(), 1):
        field = message.field.add(
            name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
        if isinstance(kind, str):
            field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, kind
        else:
            field.type = kind
    message.field[5].label = FieldDescriptorProto.LABEL_REPEATED
    return file


if __name__ == "__main__":
    main()
