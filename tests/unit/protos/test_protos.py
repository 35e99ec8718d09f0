"""The committed descriptors against those of the installed TensorFlow and TensorFlow Serving."""

import importlib
from importlib import resources

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from lambda_serving import protos

_FILES = {
    file.name: file
    for file in FileDescriptorSet.FromString(
        resources.files("lambda_serving").joinpath("protos/messages.binpb").read_bytes()
    ).file
}
_WRITTEN_BY_HAND = {  # no wheel has them
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/config/ssl_config.proto",
    "tensorflow_serving/servables/tensorflow/saved_model_config.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
}


@pytest.mark.parametrize("name", sorted(_FILES.keys() - _WRITTEN_BY_HAND))
def test_file_is_the_one_of_the_installed_wheels(name: str) -> None:
    importlib.import_module("tensorflow")  # brings those of others
    if name.startswith("tensorflow"):
        importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    installed = FileDescriptorProto()
    descriptor_pool.Default().FindFileByName(name).CopyToProto(installed)
    assert _FILES[name] == installed


def test_files_come_after_those_that_they_import() -> None:
    seen: set[str] = set()
    for name, file in _FILES.items():
        assert seen.issuperset(file.dependency)
        seen.add(name)


@pytest.mark.parametrize(
    "name",
    [
        "tensorflow.ConfigProto",
        "tensorflow.Example",
        "tensorflow.MetaGraphDef",
        "tensorflow.RunOptions",
        "tensorflow.SavedModel",
        "tensorflow.SignatureDef",
        "tensorflow.serving.BatchingParameters",
        "tensorflow.serving.GetModelStatusResponse",
        "tensorflow.serving.ModelServerConfig",
        "tensorflow.serving.MonitoringConfig",
        "tensorflow.serving.PredictionLog",
        "tensorflow.serving.SavedModelConfig",
        "tensorflow.serving.SignatureDefMap",
    ],
)
def test_message_is_found_by_its_name_and_made_once(name: str) -> None:
    assert protos.message(name).DESCRIPTOR.full_name == name
    assert protos.message(name) is protos.message(name)


def test_unknown_message_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        protos.message("tensorflow.NoSuchMessage")


def test_messages_of_both_pools_read_each_others_bytes() -> None:
    import tensorflow as tf

    ours = protos.message("tensorflow.RunOptions")(timeout_in_ms=1234)
    theirs = tf.compat.v1.RunOptions.FromString(ours.SerializeToString())
    assert theirs == tf.compat.v1.RunOptions(timeout_in_ms=1234)
