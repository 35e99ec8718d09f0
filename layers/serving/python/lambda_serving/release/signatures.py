"""What callers of a version send and get, to be compared with what they send and get now.

A signature's inputs and outputs count, by name, dtype and shape. The names of tensors in the graph
do not, nor signatures that nobody can call.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lambda_serving.errors import DataLoss, translate_os_errors
from lambda_serving.servables import graph_defs, signature_defs
from lambda_serving.servables.litert import compiled_folder, model_file
from lambda_serving.servables.litert.compiled_folder import MODEL_FILE
from lambda_serving.servables.servable import TensorSpec

__all__ = ["Signatures", "Tensor", "changes", "of_definitions", "of_folder", "of_metadata"]


class Tensor(NamedTuple):
    """An input or an output, in words."""

    dtype: str
    shape: str

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


Tensors = Mapping[str, Tensor]
"""By kind and name, such as `input x`."""
Signatures = Mapping[str, Tensors]


def of_definitions(definitions: Mapping[str, bytes]) -> Signatures:
    """The signatures that can be called, from serialized `SignatureDef`s by name."""
    return {
        name: {
            **{f"input {each}": _tensor(spec) for each, spec in signature.inputs.items()},
            **{f"output {each}": _tensor(spec) for each, spec in signature.outputs.items()},
        }
        for name, signature in signature_defs.signatures(definitions).items()
    }


def of_folder(folder: Path, tags: Sequence[str], *, litert: bool) -> Signatures:
    """The signatures of a version's folder, without loading its model.

    `litert` says that `model.tflite` is served. Raises DataLoss if they cannot be read, and what
    `model_file.read` raises.
    """
    if litert:
        if exported := compiled_folder.exported(folder):
            return of_definitions(exported.definitions)
        with translate_os_errors(f"read {folder}"):
            content = (folder / MODEL_FILE).read_bytes()
        return of_definitions(model_file.read(content).definitions())
    for graph in graph_defs.meta_graphs(folder) or ():
        if {*graph.meta_info_def.tags} == {*tags}:
            return of_definitions(signature_defs.definitions(graph.SerializeToString()))
    raise DataLoss(f"{folder} has no graph with the tags {','.join(tags)} that can be read")


def of_metadata(answer: Any) -> Signatures:
    """The signatures in what a function returns when invoked for a model's metadata.

    Raises DataLoss for another answer.
    """
    from google.protobuf.json_format import ParseDict, ParseError

    from lambda_serving import protos

    try:
        told = answer["body"]["metadata"]["signature_def"]
        found = ParseDict(told, protos.message("tensorflow.serving.SignatureDefMap")())
    except (KeyError, ParseError, TypeError) as error:
        raise DataLoss(f"It does not tell its signatures, but {json.dumps(answer)}") from error
    definitions = {
        name: each.SerializeToString() for name, each in sorted(found.signature_def.items())
    }
    return of_definitions(definitions)


def changes(before: Signatures, now: Signatures) -> Iterator[str]:
    """A line for each difference: `+` is new, `-` is gone, `~` has another dtype or shape.

    Lines about a signature's inputs and outputs follow its name.
    """
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield f"- signature {name}"
        else:
            sign = " " if name in before else "+"
            lines = list(_lines(before.get(name, {}), now[name]))
            if lines or name not in before:
                yield f"{sign} signature {name}"
            yield from lines


def _lines(before: Tensors, now: Tensors) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield f"  - {name}: {before[name]}"
        elif name not in before:
            yield f"  + {name}: {now[name]}"
        elif told := [
            f"{what} {old} -> {new}"
            for what, old, new in zip(Tensor._fields, before[name], now[name], strict=True)
            if old != new
        ]:
            yield f"  ~ {name}: {', '.join(told)}"


def _tensor(spec: TensorSpec) -> Tensor:
    if spec.shape is None:
        return Tensor(spec.dtype.label, "any")
    sizes = ("n" if size is None else str(size) for size in spec.shape)
    return Tensor(spec.dtype.label, f"[{', '.join(sizes)}]")
