"""Converts a SavedModel for LiteRT by TensorFlow's converter."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lambda_serving.compile import NotCompilable
from lambda_serving.servables.litert.compiled_folder import MODEL_FILE

__all__ = ["convert", "unsupported"]

_UNROLL = ", of a loop: recurrent layers of Keras convert if they are made with unroll=True"
_OPERATION = re.compile(r"'tfl?\.(\w+)'")


def convert(
    source: Path,
    out: Path,
    tags: Sequence[str],
    *,
    signatures: Sequence[str],
    stage: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Writes these signatures of a SavedModel to `model.tflite` in the folder `out`.

    Uses built-in operations only, as LiteRT has no others. Returns an empty result. Raises
    NotCompilable, with the operations that LiteRT does not have, or the converter's reason.
    """
    import tensorflow as tf

    stage("converting for LiteRT")
    try:
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(source), signature_keys=list(signatures), tags=set(tags)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = converter.convert()
    except Exception as error:  # it raises what the steps inside it raise, of any class
        raise NotCompilable(unsupported(str(error))) from error
    (out / MODEL_FILE).write_bytes(content)
    return {}


def unsupported(said: str) -> str:
    """Why a model cannot be converted, derived from what the converter said."""
    if operations := dict.fromkeys(_OPERATION.findall(said)):
        several = "s" if len(operations) > 1 else ""
        hint = _UNROLL if any(name.startswith("TensorList") for name in operations) else ""
        return f"LiteRT does not have the operation{several} {', '.join(operations)}{hint}"
    first, *_ = said.splitlines() or ["it gives no reason"]
    return f"TensorFlow's converter fails: {first.rstrip('.')}"
