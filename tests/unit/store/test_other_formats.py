"""The advice for folders and files that are not SavedModels."""

import pytest

from lambda_serving.store.other_formats import advice


@pytest.mark.parametrize(
    ("path", "names", "told"),
    [
        ("/m.keras", None, "/m.keras is a model in Keras's own format"),
        ("m.H5", None, "m.H5 is a model in Keras's own format"),
        ("/m.weights.h5", None, "/m.weights.h5 holds weights without a model"),
        ("/m.tflite", None, "/m.tflite is a LiteRT (TensorFlow Lite) model"),
        ("/m.zip", None, "/m.zip is an archive. Unpack it"),
        ("/m.tar.gz", None, "/m.tar.gz is an archive"),
        ("/m/1.tgz", None, "/m/1.tgz is an archive"),
        ("/m.onnx", None, "/m.onnx is not a TensorFlow model"),
        ("/graph.pb", None, "/graph.pb is a graph without signatures"),
        ("/m/1/saved_model.pb", None, "/m/1/saved_model.pb is a file of a SavedModel. Give its"),
        ("saved_model.pb", None, "saved_model.pb is a file of a SavedModel. Give its folder, ."),
        ("/m.txt", None, ""),
        ("/m", ["README.md", "model.keras"], "/m/model.keras is a model in Keras's own format"),
        ("/m", ["config.json", "metadata.json", "model.weights.h5"], "/m/model.weights.h5 holds"),
        ("/m/", ["model.tflite"], "/m/model.tflite is a LiteRT (TensorFlow Lite) model"),
        ("/m", ["checkpoint", "ckpt-1.index"], "/m/checkpoint belongs to a checkpoint"),
        ("/m", ["ckpt-1.data-00000-of-00002", "ckpt-1.index"], "/m/ckpt-1.data-00000-of-00002 b"),
        ("/m", ["frozen_graph.pb"], "/m/frozen_graph.pb is a graph without signatures"),
        ("/m", ["assets", "saved_model.pb", "tfhub_module.pb", "variables"], "/m/tfhub_module.pb"),
        ("/m/7", ["saved_model.pb"], "/m/7 is a version itself, not a base path. Give its parent"),
        ("7", ["saved_model.pb"], "7 is a version itself, not a base path. Give its parent, ."),
        ("/m", ["saved_model.pb"], "/m is a SavedModel itself, not a base path. Move it into"),
        ("/m", [], "Put a model into it: model.export('/m/1')"),
        ("s3://b/m/", [], "Put a model into it: lambda-serving push EXPORT s3://b/m/1"),
        ("s3://b/m", ["m.zip"], "s3://b/m/m.zip is an archive"),
        ("/m", ["variables", "assets", "fingerprint.pb", "keras_metadata.pb"], ""),
        ("/m", ["a", "b"], ""),
        ("/m/7", ["assets", "variables"], ""),
    ],
)
def test_name_tells_what_it_is_and_what_to_do(
    path: str, names: list[str] | None, told: str
) -> None:
    said = advice(path, names)
    assert said.startswith(told)
    assert bool(said) is bool(told)
