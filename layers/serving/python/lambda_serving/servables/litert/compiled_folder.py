"""The format of a folder that `lambda-serving compile` made for LiteRT.

It holds `model.tflite`, and below `assets.extra` what the export had there and two files more.
`compiled.json` names the version of LiteRT that has run the model; other versions run it, too. Its
`aliases` name signatures that the converter merged with an equal one, and `plain_kernels_for` is
`["nan"]` if inputs that hold NaN are run without XNNPACK. `signatures.pb` is the export's
serialized `tensorflow.serving.SignatureDefMap`, because a `.tflite` file holds no method names,
default values, or signatures that cannot be called.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.errors import DataLoss
from lambda_serving.protos import plain_signature
from lambda_serving.protos.wire import Malformed

__all__ = [
    "MODEL_FILE",
    "Exported",
    "compiled_with",
    "exported",
    "is_compiled",
    "mark",
    "serves",
]

MODEL_FILE = "model.tflite"
_MARKER = "assets.extra/compiled.json"
_SIGNATURES = "assets.extra/signatures.pb"
_FORMAT = 1
_NAN = "nan"


@dataclass(frozen=True, slots=True)
class Exported:
    """The signatures of the export that a folder was compiled from.

    `definitions` are serialized `SignatureDef`s by name, `aliases` the names of equal signatures in
    the file for those that it lacks. `plain_for_nan`: the export answers inputs that hold NaN as
    LiteRT's plain kernels do, and not as XNNPACK's do.
    """

    definitions: Mapping[str, bytes]
    aliases: Mapping[str, str] = field(default_factory=dict)
    plain_for_nan: bool = False


def is_compiled(folder: Path) -> bool:
    """Whether a folder is marked as compiled for LiteRT."""
    return bool(compiled_with(folder))


def serves(folder: Path, *, preferred: bool) -> bool:
    """Whether LiteRT serves a folder: it has `model.tflite`, preferred or compiled for LiteRT."""
    return (folder / MODEL_FILE).is_file() and (preferred or is_compiled(folder))


def compiled_with(folder: Path) -> str:
    """The version of LiteRT that a folder was compiled for; empty if it was not."""
    match _marker(folder):
        case {"format": 1, "litert": str(version)}:
            return version
    return ""


def exported(folder: Path) -> Exported | None:
    """The signatures of a compiled folder's export; None if the folder was not compiled.

    Raises DataLoss for a damaged file.
    """
    if not is_compiled(folder) or not (folder / _SIGNATURES).exists():
        return None
    definitions = dict(sorted(_definitions((folder / _SIGNATURES).read_bytes()).items()))
    marker = _marker(folder)
    aliases, plain_for = marker.get("aliases"), marker.get("plain_kernels_for")
    return Exported(definitions, aliases if isinstance(aliases, dict) else {}, plain_for == [_NAN])


def _definitions(content: bytes) -> dict[str, bytes]:
    """The serialized `SignatureDef`s of a map by name; protobuf reads those that are not plain."""
    with suppress(Malformed):
        found = plain_signature.read_map(content)
        if all(map(plain_signature.read, found.values())):
            return found
    from google.protobuf.message import DecodeError

    try:
        made = protos.message("tensorflow.serving.SignatureDefMap").FromString(content)
    except DecodeError:
        raise DataLoss(f"{_SIGNATURES} is damaged. Compile the export again") from None
    return {name: each.SerializeToString() for name, each in made.signature_def.items()}


def mark(folder: Path, version: str, exported: Exported | None = None) -> None:
    """Marks a folder as compiled for LiteRT, run by this version, from an export.

    Without `exported`, the signatures of the file are served.
    """
    marker = folder / _MARKER
    marker.parent.mkdir(exist_ok=True)
    made: dict[str, Any] = {"format": _FORMAT, "litert": version}
    if exported:
        if exported.aliases:
            made["aliases"] = dict(exported.aliases)
        if exported.plain_for_nan:
            made["plain_kernels_for"] = [_NAN]
        signatures = protos.message("tensorflow.serving.SignatureDefMap")()
        for name, definition in exported.definitions.items():
            signatures.signature_def[name].ParseFromString(definition)
        content = signatures.SerializeToString(deterministic=True)
        (folder / _SIGNATURES).write_bytes(content)
    marker.write_text(json.dumps(made) + "\n")


def _marker(folder: Path) -> Any:
    try:
        return json.loads((folder / _MARKER).read_bytes())
    except (OSError, ValueError):
        return None
