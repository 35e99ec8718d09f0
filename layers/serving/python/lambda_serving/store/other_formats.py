"""Recognizes by name what is not a SavedModel, and says how to make one of it."""

import posixpath
import re
from collections.abc import Collection

from lambda_serving.store.address import Address

__all__ = ["advice"]

_HUB = "tfhub_module.pb"
# By pattern of names; the first pattern that matches any name counts.
_ADVICE = {
    r"tfhub_module\.pb": "{0} is a module in TensorFlow Hub's first format. Load it with"
    " tensorflow_hub.load, and save it with tf.saved_model.save and signatures",
    r".*\.weights\.h5": "{0} holds weights without a model. Build the model, call"
    " model.load_weights(...), then model.export(...)",
    r".*\.(keras|h5|hdf5)": "{0} is a model in Keras's own format. Export it as a SavedModel:"
    " keras.models.load_model(...), then model.export(...)",
    r".*\.(tflite|lite)": "{0} is a LiteRT (TensorFlow Lite) model. Name it model.tflite in a"
    " version's folder, and serve it with --prefer_tflite_model",
    r".*\.(zip|tar|tgz|tbz2?|txz|(tar\.)?(gz|bz2|xz|zst)|7z)": "{0} is an archive. Unpack it",
    r".*\.(onnx|pt|pth|safetensors|mlmodel|mlpackage|pkl|joblib)": "{0} is not a TensorFlow model."
    " Convert it to a SavedModel",
    r"checkpoint|.*\.(ckpt|index|meta|data-\d{5}-of-\d{5})": "{0} belongs to a checkpoint, which"
    " holds values without a graph. Build the model, restore the checkpoint, and call"
    " model.export(...)",
    r"(?!saved_model\.|fingerprint\.|keras_metadata\.).*\.(pb|pbtxt)": "{0} is a graph without"
    " signatures, perhaps a frozen one. Import it with tf.compat.v1.import_graph_def, and save it"
    " with tf.compat.v1.saved_model.simple_save",
}
_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")


def advice(path: str, names: Collection[str] | None = None) -> str:
    """What lies at `path` instead of a SavedModel or of versions, and what to do about it.

    `names` are those in the folder, None for a file. Empty if the names do not tell.
    """
    path = path.rstrip("/") or "/"
    parent, last = posixpath.split(path)
    if names is None:
        if last in _SAVED_MODELS:
            return f"{path} is a file of a SavedModel. Give its folder, {parent or '.'}"
        return _matching([last], parent)
    if not names:
        push, export = f"lambda-serving push EXPORT {path}/1", f"model.export('{path}/1')"
        how = push if Address.parse(path).is_bucket else export
        return f"Put a model into it: {how}"
    if not any(name in names for name in _SAVED_MODELS):
        return _matching(names, path)
    return _matching({_HUB}.intersection(names), path) or _not_base_path(path, parent, last)


def _not_base_path(path: str, parent: str, last: str) -> str:
    if last.isdecimal():
        return f"{path} is a version itself, not a base path. Give its parent, {parent or '.'}"
    return (
        f"{path} is a SavedModel itself, not a base path. Move it into a folder whose name is a"
        f" number, such as {path}/1"
    )


def _matching(names: Collection[str], folder: str) -> str:
    for pattern, sentence in _ADVICE.items():
        for name in sorted(names):
            if re.fullmatch(pattern, name, re.IGNORECASE):
                return sentence.format(posixpath.join(folder, name))
    return ""
