"""Converts SavedModels for LiteRT: `python build_tflite.py MODELS FOLDER`.

`MODELS/<name>/<version>` becomes `FOLDER/<name>/<version>/model.tflite` for each model of the
table below, and each of the handbook's beside them, with built-in operations alone. The tests run
this in a process of its own, which imports TensorFlow.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lambda_serving.servables.reexport import reexport

__all__ = ["HANDBOOK", "MODELS"]

_DEFAULT = ("serving_default",)
_SIGNATURES = {
    # the others parse examples, for which LiteRT has no operation
    "half_plus_two/123": _DEFAULT,
    "half_plus_three/123": _DEFAULT,
    "two_versions/1": _DEFAULT,
    "two_versions/2": _DEFAULT,
    "identity_float32/1": _DEFAULT,
    "identity_int32/1": _DEFAULT,
    "identity_int64/1": _DEFAULT,
    "identity_int16/1": _DEFAULT,
    "identity_int8/1": _DEFAULT,
    "identity_uint8/1": _DEFAULT,
    "identity_uint32/1": _DEFAULT,
    "identity_bool/1": _DEFAULT,
    "identity_string/1": _DEFAULT,
    "identity_half/1": _DEFAULT,
    "identity_bfloat16/1": _DEFAULT,
    "identity_complex64/1": _DEFAULT,
    "identity_float64/1": _DEFAULT,
    "identity_uint64/1": _DEFAULT,
    "identity_uint16/1": _DEFAULT,
    "bytes_out/1": _DEFAULT,
    "dense/1": _DEFAULT,
    "multi/1": _DEFAULT,
    "shapes/1": None,
    "no_default/1": None,
    "while_loop/1": None,
    "keras3_saved/1": None,
    "keras3_export/1": None,
    "keras3_sequential_fixed_batch/1": None,
    "shared_weights/1": None,
}
_MNIST = Path(__file__).parents[2] / "examples/mnist"
HANDBOOK = {
    "MLP/1": _MNIST / "saved/1",
    "custom/1": _MNIST / "saved_with_signature/1",
}
"""The exports of the handbook's two models, by the names of what becomes of them."""

_LOSING_VARIABLES = {"keras3_saved/1", "keras3_sequential_fixed_batch/1", "custom/1"}
"""The exports of Keras 3 whose variables the converter, which restores the graph, does not find."""

_GATHER = "gather/1"
"""A model of our own, which fails for some values: row `i` of `x`."""

MODELS = frozenset(name.partition("/")[0] for name in _SIGNATURES)
"""The names of the models of the table."""


def main() -> None:
    """Convert every model of the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read while TensorFlow is imported
    import tensorflow as tf  # by this program only, not by tests that import the table

    models, out = Path(sys.argv[1]), Path(sys.argv[2])
    exports = {name: (models / name, keys) for name, keys in _SIGNATURES.items()}
    exports |= {name: (path, None) for name, path in HANDBOOK.items()}
    for name, (path, keys) in exports.items():
        with _restored(path, anew=name in _LOSING_VARIABLES) as source:
            converter = tf.lite.TFLiteConverter.from_saved_model(source, signature_keys=keys)
            _put(converter, out / name)
    rows = tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None], tf.int32, "i")
    gather = tf.function(lambda x, i: {"y": tf.gather(x, i)}, input_signature=rows)
    functions = [gather.get_concrete_function()]
    _put(tf.lite.TFLiteConverter.from_concrete_functions(functions, tf.Module()), out / _GATHER)


@contextmanager
def _restored(path: Path, *, anew: bool) -> Iterator[str]:
    """The export, or one made anew of its object graph."""
    if not anew:
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        reexport(str(path), folder, "", ["serve"])
        yield folder


def _put(converter: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
