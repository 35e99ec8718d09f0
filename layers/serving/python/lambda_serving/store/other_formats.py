"""What is no SavedModel, told by its name, and how to get one of it."""

import posixpath
import re
from collections.abc import Collection

from lambda_serving.store.address import Address

__all__ = ["advice"]

_HUB = "tfhub_module.pb"
_FORMATS = (
    (
        r"tfhub_module\.pb",
        (
            "{0} is a module of TensorFlow Hub's first format. Load it by tensorflow_hub.load, and"
            " save it by tf.saved_model.save, with signatures"
        ),
    ),
    (
        r".*\.weights\.h5",
        (
            "{0} holds weights without a model. Build the model, model.load_weights(...), and"
            " model.export(...) it"
        ),
    ),
    (
        r".*\.(keras|h5|hdf5)",
        (
            "{0} is a model in Keras's own format. Export it as a SavedModel:"
            " keras.models.load_model(...), then model.export(...)"
        ),
    ),
    (
        r".*\.(tflite|lite)",
        (
            "{0} is a model of TensorFlow Lite, which is not served. Give the SavedModel that it"
            " was converted from, or export that model again by model.export(...)"
        ),
    ),
    (r".*\.(zip|tar|tgz|tbz2?|txz|(tar\.)?(gz|bz2|xz|zst)|7z)", "{0} is an archive. Unpack it"),
    (
        r".*\.(onnx|pt|pth|safetensors|mlmodel|mlpackage|pkl|joblib)",
        "{0} is not a model of TensorFlow. Convert it to a SavedModel",
    ),
    (
        r"checkpoint|.*\.(ckpt|index|meta|data-\d{5}-of-\d{5})",
        (
            "{0} is of a checkpoint, which holds values without a graph. Build the model, restore"
            " the checkpoint, and model.export(...) it"
        ),
    ),
    (
        r"(?!saved_model\.|fingerprint\.|keras_metadata\.).*\.(pb|pbtxt)",
        (
            "{0} is a graph without signatures, a frozen one perhaps. Import it by"
            " tf.compat.v1.import_graph_def, and save it by tf.compat.v1.saved_model.simple_save"
        ),
    ),
)
"""The first that fits what is there counts."""
_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")


def advice(path: str, names: Collection[str] | None = None) -> str:
    """What lies at `path` in place of a SavedModel or of versions, and what to do about it.

    `names` are those in the folder, None of a file. Empty where they do not tell.
    """
    path = path.rstrip("/") or "/"
    parent, last = posixpath.split(path)
    if names is None:
        if last in _SAVED_MODELS:
            return f"{path} is a file of a SavedModel. Give its folder, {parent or '.'}"
        return _told([last], parent)
    if not names:
        push, export = f"lambda-serving push EXPORT {path}/1", f"model.export('{path}/1')"
        how = push if Address.parse(path).is_bucket else export
        return f"Put a model into it: {how}"
    if any(name in names for name in _SAVED_MODELS):
        return _told({_HUB}.intersection(names), path) or _of_version(path, parent, last)
    return _told(names, path)


def _told(names: Collection[str], folder: str) -> str:
    for pattern, sentence in _FORMATS:
        for name in sorted(names):
            if re.fullmatch(pattern, name, re.IGNORECASE):
                return sentence.format(posixpath.join(folder, name))
    return ""


def _of_version(path: str, parent: str, last: str) -> str:
    if last.isdecimal():
        return f"{path} is a version itself, not a base path. Give its parent, {parent or '.'}"
    return (
        f"{path} is a SavedModel itself, not a base path. Move it into a folder whose name is a"
        f" number, such as {path}/1"
    )
