"""Models to start and to time: `python models.py FOLDER NAME ...` exports them as FOLDER/NAME.

Weights are random; the measurements do not depend on them. NAME.npz beside each export has one
row of inputs for its signature `serving_default`.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read while TensorFlow is imported

import numpy as np
import tensorflow as tf

_WORDS, _WIDTH = 20_000, 64
_SIDE = 224  # of images, where a model takes any
_EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")


def main(folder: Path, names: list[str]) -> None:
    tf.keras.utils.set_random_seed(0)
    for name in names:
        inputs = _MODELS[name](str(folder / name))
        np.savez(folder / f"{name}.npz", **inputs)


def _application(build: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """One of Keras' applications, with batch normalisation as training leaves it."""

    def export(path: str) -> dict[str, Any]:
        model, random = build(weights=None), np.random.default_rng(0)
        for layer in model.layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                gamma, *others = layer.get_weights()
                drawn = [random.normal(0, 0.1, each.shape) for each in others[:-1]]
                layer.set_weights([gamma, *drawn, random.uniform(0.5, 1.5, gamma.shape)])
        model.export(path, verbose=False)
        sizes = [size or _SIDE for size in model.input_shape[1:]]
        return {model.inputs[0].name: random.random((1, *sizes), np.float32)}

    return export


def _mlp(path: str) -> dict[str, Any]:
    """The sample model's shape: 784 pixels, 100 hidden units, 10 classes."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1), name="pixels"),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.export(path, verbose=False)
    return {"pixels": np.random.default_rng(0).random((1, 28, 28, 1), np.float32)}


def _layers(count: int) -> Callable[[str], dict[str, Any]]:
    """Layers of 2048 units: 17 MB of weights each, read once for a batch."""

    def export(path: str) -> dict[str, Any]:
        layers = [tf.keras.layers.Dense(2048, activation="relu") for _ in range(count)]
        model = tf.keras.Sequential([tf.keras.Input((2048,), name="numbers"), *layers])
        model.export(path, verbose=False)
        return {"numbers": np.random.default_rng(0).random((1, 2048), np.float32)}

    return export


def _halves(path: str) -> dict[str, Any]:
    """The least possible work for 1,000 numbers: half of each, plus two."""
    spec = tf.TensorSpec([None, 1000], tf.float32, name="numbers")
    function = tf.function(lambda numbers: {"output": numbers / 2 + 2}, input_signature=[spec])
    tf.saved_model.save(tf.Module(), path, signatures=function)
    return {"numbers": np.random.default_rng(0).random((1, 1000), np.float32)}


def _dense(rows: int, columns: int) -> tf.Variable:
    return tf.Variable(tf.random.normal([rows, columns], stddev=rows**-0.5))


def _text(path: str) -> dict[str, Any]:
    """Words of a sentence by a table of 20,000, the mean of their vectors, two layers."""
    module = tf.Module()
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocabulary.txt"
        vocabulary.write_text("\n".join(f"word{i}" for i in range(_WORDS)))
        module.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                tf.saved_model.Asset(str(vocabulary)),
                key_dtype=tf.string,
                key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
                value_dtype=tf.int64,
                value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=_WORDS,
        )
        module.vectors, module.hidden = _dense(_WORDS + 1, _WIDTH), _dense(_WIDTH, _WIDTH)
        module.classes = _dense(_WIDTH, 4)

        def classify(text: Any) -> dict[str, Any]:
            ids = module.table.lookup(tf.strings.split(tf.strings.lower(text)))
            vectors = tf.gather(module.vectors, ids)
            hidden = tf.nn.relu(tf.reduce_mean(vectors, axis=1) @ module.hidden)
            return {"scores": tf.nn.softmax(hidden @ module.classes)}

        spec = tf.TensorSpec([None], tf.string, name="text")
        function = tf.function(classify, input_signature=[spec])
        tf.saved_model.save(module, path, signatures=function)
    return {"text": np.array([" ".join(f"word{i}" for i in range(0, 200, 10))], "S")}


def _examples(path: str) -> dict[str, Any]:
    """Four signatures over `tf.Example`s of numbers and words."""
    module = tf.Module()
    module.vectors, module.hidden = _dense(1000, 16), _dense(32, 64)
    module.classes, module.value = _dense(64, 3), _dense(64, 1)
    features = {
        "numbers": tf.io.FixedLenFeature([16], tf.float32),
        "words": tf.io.RaggedFeature(tf.string),
    }

    def hidden(inputs: Any) -> Any:
        parsed = tf.io.parse_example(inputs, features)
        ids = tf.strings.to_hash_bucket_fast(parsed["words"], 1000)
        words = tf.reduce_sum(tf.gather(module.vectors, ids), axis=1)
        return tf.nn.relu(tf.concat([parsed["numbers"], words], 1) @ module.hidden)

    def classify(inputs: Any) -> dict[str, Any]:
        scores = tf.nn.softmax(hidden(inputs) @ module.classes)
        return {
            "classes": tf.tile([["low", "middle", "high"]], [tf.shape(scores)[0], 1]),
            "scores": scores,
        }

    def regress(inputs: Any) -> dict[str, Any]:
        return {"outputs": hidden(inputs) @ module.value}

    def vectors(inputs: Any) -> dict[str, Any]:
        return {"vectors": hidden(inputs)}

    computes = {
        "serving_default": lambda inputs: {
            "scores": tf.nn.softmax(hidden(inputs) @ module.classes)
        },
        "classify": classify,
        "regress": regress,
        "vectors": vectors,
    }
    functions = {
        name: tf.function(compute, input_signature=[_EXAMPLES])
        for name, compute in computes.items()
    }
    tf.saved_model.save(module, path, signatures=functions)
    example = tf.train.Example()
    example.features.feature["numbers"].float_list.value.extend(np.linspace(0, 1, 16))
    example.features.feature["words"].bytes_list.value.extend([b"red", b"green"])
    return {"inputs": np.array([example.SerializeToString()], object).astype("S")}


_MODELS: dict[str, Callable[[str], dict[str, Any]]] = {
    "mlp": _mlp,
    "layers": _layers(3),
    "hundred": _layers(6),
    "halves": _halves,
    "text": _text,
    "examples": _examples,
    "mobilenetv2": _application(tf.keras.applications.MobileNetV2),
    "efficientnetb0": _application(tf.keras.applications.EfficientNetB0),
    "resnet50": _application(tf.keras.applications.ResNet50),
    "mobilenetv3small": _application(tf.keras.applications.MobileNetV3Small),
    "efficientnetv2b0": _application(tf.keras.applications.EfficientNetV2B0),
    "densenet121": _application(tf.keras.applications.DenseNet121),
    "inceptionv3": _application(tf.keras.applications.InceptionV3),
    "nasnetmobile": _application(tf.keras.applications.NASNetMobile),
    "xception": _application(tf.keras.applications.Xception),
    "convnexttiny": _application(tf.keras.applications.ConvNeXtTiny),
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
