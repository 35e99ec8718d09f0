"""The format of a folder that `lambda-serving compile` made for LiteRT.

It holds `model.tflite`, and `assets.extra/compiled.json` names the version of LiteRT that has run
it. Other versions of LiteRT run it, too.
"""

import json
from pathlib import Path

__all__ = ["MODEL_FILE", "compiled_with", "is_compiled", "mark"]

MODEL_FILE = "model.tflite"
_MARKER = "assets.extra/compiled.json"
_FORMAT, _RUNTIME = 1, "litert"


def is_compiled(folder: Path) -> bool:
    """Whether a folder is marked as compiled for LiteRT."""
    return bool(compiled_with(folder))


def compiled_with(folder: Path) -> str:
    """The version of LiteRT that a folder was compiled for; empty if it was not."""
    try:
        match json.loads((folder / _MARKER).read_bytes()):
            case {"format": 1, "litert": str(version)}:
                return version
    except (OSError, ValueError):
        pass
    return ""


def mark(folder: Path, version: str) -> None:
    """Marks a folder as compiled for LiteRT."""
    marker = folder / _MARKER
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(json.dumps({"format": _FORMAT, _RUNTIME: version}) + "\n")
