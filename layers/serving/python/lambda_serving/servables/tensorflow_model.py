"""Serves the SavedModel of a folder by TensorFlow."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_serving.servables import compiled_folder, signature_defs
from lambda_serving.servables.open_session import Opened, open_session
from lambda_serving.servables.servable import Function, Servable, Signature, TensorSpec
from lambda_serving.servables.signature_problems import signature_problems

if TYPE_CHECKING:
    from lambda_serving.servables.tensorflow_c.shared_memory import Shared

__all__ = ["open_saved_model"]

_SELECTIONS = 32  # choices of outputs whose functions are cached; each is a small object


def open_saved_model(
    path: Path,
    tags: Sequence[str],
    session_config: bytes,
    cache: Path | None,
    *,
    files_stay: bool,
    shared: "Shared | None",
) -> Servable:
    """The servable of a SavedModel; see `saved_model.load`. Raises TensorFlow's errors."""
    return _servable(open_session(path, tags, session_config, cache, shared, files_stay=files_stay))


def _servable(opened: Opened) -> Servable:
    signatures = signature_defs.signatures(opened.definitions)
    uncallable = signature_defs.uncallable(opened.definitions)
    session = opened.session
    steady = {
        name
        for name, signature in signatures.items()
        if opened.costs.follow_shapes(spec.tensor_name for spec in signature.outputs.values())
    }

    def function(name: str, outputs: Iterable[str]) -> Function:
        signature = signatures[name]
        return compiled_folder.function(
            session,
            [spec.tensor_name for spec in signature.inputs.values()],
            [signature.outputs[output].tensor_name for output in outputs],
            follows_shapes=name in steady,
        )

    return Servable(
        signatures,
        {name: function(name, signature.outputs) for name, signature in signatures.items()},
        select=lru_cache(_SELECTIONS)(function),
        definitions=opened.definitions,
        uncallable=uncallable,
        problems=[
            *opened.problems,
            *signature_problems(signatures, uncallable),
            *_unfetchable(signatures),
        ],
        restored_from=opened.path,
        close=session.close,
        wants_values=opened.costs.any_compiled(),
    )


def _unfetchable(by_name: Mapping[str, Signature]) -> list[str]:
    """The outputs that TensorFlow refuses to fetch, each a sentence with the fix."""
    return [
        f"output {output!r} of signature {signature.name!r} is its input {name!r}, and TensorFlow"
        f" refuses every call: {_tensor(there)} is both fed and fetched. Export tf.identity of it"
        for signature in by_name.values()
        for output, there in signature.outputs.items()
        for name, spec in signature.inputs.items()
        if _tensor(spec) == _tensor(there)
    ]


def _tensor(spec: TensorSpec) -> str:
    """The tensor's full name: `x` means `x:0`."""
    return spec.tensor_name if ":" in spec.tensor_name else f"{spec.tensor_name}:0"
