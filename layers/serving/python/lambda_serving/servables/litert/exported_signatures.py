"""Serves a compiled folder by the signatures of its export, which say more than the file's own."""

from collections.abc import Mapping

from lambda_serving.errors import FailedPrecondition
from lambda_serving.servables import signature_defs
from lambda_serving.servables.litert.compiled_folder import Exported
from lambda_serving.servables.litert.model_file import ModelFile
from lambda_serving.servables.litert.signature_function import described
from lambda_serving.servables.servable import Signature

__all__ = ["as_exported", "ends"]


def as_exported(
    file: ModelFile, exported: Exported | None
) -> tuple[ModelFile, Mapping[str, bytes]]:
    """The file with the signatures of its export, and serialized `SignatureDef`s by name.

    For a file that was not compiled, the file and its own definitions. Raises FailedPrecondition
    if the file lacks a signature of the export, or takes or gives other tensors.
    """
    if exported is None:
        return file, file.definitions()
    there = dict(file.signatures)
    for name, mate in exported.aliases.items():
        if mate in there:
            there.setdefault(name, there[mate])
    own = signature_defs.signatures({name: each.definition for name, each in there.items()})
    for name, signature in signature_defs.signatures(exported.definitions).items():
        wanted, found = ends(signature), ends(own[name]) if name in own else "nothing"
        if wanted != found:
            raise FailedPrecondition(
                f"Its signature {name!r} has {found}, and that of the export has {wanted}."
                " Compile the export again"
            )
    return file._replace(signatures=there), exported.definitions


def ends(signature: Signature) -> str:
    """What callers send and get: names and dtypes, and the shapes of inputs, which are checked.

    The names of tensors do not matter, nor the shapes of outputs, which the converter infers.
    """
    inputs = [
        f"{name} ({spec.dtype.label}, {described(spec)})" for name, spec in signature.inputs.items()
    ]
    outputs = [f"{name} ({spec.dtype.label})" for name, spec in signature.outputs.items()]
    return f"the inputs {', '.join(inputs) or 'none'} and the outputs {', '.join(outputs)}"
