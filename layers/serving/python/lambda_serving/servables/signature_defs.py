"""Reads signatures from a serialized `MetaGraphDef`."""

from collections.abc import Iterator, Mapping
from typing import Any

from lambda_serving import protos
from lambda_serving.dtypes import DType
from lambda_serving.protos import plain_signature
from lambda_serving.protos.plain_signature import TensorInfo
from lambda_serving.protos.tensor_proto import to_array
from lambda_serving.servables.servable import Signature, TensorSpec

__all__ = ["definitions", "signatures", "uncallable"]

_OPERATIONS = ("__saved_model_init_op", "__saved_model_train_op")
"""Signatures that stand for operations of the graph; nobody may call them."""
_COMPOSITES = {
    "RAGGED_TENSOR_SPEC": (
        "a RaggedTensor",
        "{0}.values and {0}.row_splits (or {0}.flat_values and each of {0}.nested_row_splits)",
    ),
    "SPARSE_TENSOR_SPEC": ("a SparseTensor", "{0}.indices, {0}.values and {0}.dense_shape"),
    "INDEXED_SLICES_SPEC": ("IndexedSlices", "{0}.indices and {0}.values"),
}
"""For each class of `TypeSpec`, what to call a composite tensor, and its parts."""


def definitions(meta_graph: bytes) -> dict[str, bytes]:
    """Every serialized `SignatureDef` of a meta graph by name, as the metadata call shows them."""
    graph = protos.message("tensorflow.MetaGraphDef").FromString(meta_graph)
    return {
        name: definition.SerializeToString()
        for name, definition in sorted(graph.signature_def.items())
    }


def signatures(definitions: Mapping[str, bytes]) -> dict[str, Signature]:
    """The callable signatures: those whose inputs and outputs are all plain tensors.

    Omits the init and train ops, and the signatures for which `uncallable` has a reason.
    """
    found = {}
    for name, serialized in _named(definitions):
        if signature := _plain(name, serialized) or _parsed(name, serialized):
            found[name] = signature
    return found


def uncallable(definitions: Mapping[str, bytes]) -> dict[str, str]:
    """For each signature that cannot be called, the reason and what to export instead."""
    found = {}
    for name, serialized in _named(definitions):
        if not _plain(name, serialized) and (reasons := _reasons(_message(serialized))):
            found[name] = f"Signature {name!r} cannot be called: {'; '.join(reasons)}"
    return found


def _named(definitions: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    return ((name, each) for name, each in definitions.items() if name not in _OPERATIONS)


def _plain(name: str, serialized: bytes) -> Signature | None:
    """The signature if it can be called and read without importing protobuf."""
    plain = plain_signature.read(serialized)
    if not plain or not plain.outputs:
        return None
    try:
        inputs, outputs = (_plain_specs(infos) for infos in (plain.inputs, plain.outputs))
    except ValueError:
        return None
    return Signature(name, inputs, outputs, plain.method_name, serialized, defaults={})


def _parsed(name: str, serialized: bytes) -> Signature | None:
    """The signature as protobuf reads it; None if it cannot be called."""
    definition = _message(serialized)
    if _reasons(definition):
        return None
    return Signature(
        name=name,
        inputs=_specs(definition.inputs),
        outputs=_specs(definition.outputs),
        method_name=definition.method_name,
        definition=serialized,
        defaults={key: to_array(value) for key, value in definition.defaults.items()},
    )


def _message(serialized: bytes) -> Any:
    return protos.message("tensorflow.SignatureDef").FromString(serialized)


def _reasons(definition: Any) -> list[str]:
    """The inputs and outputs that are not tensors, each with what to do about it."""
    reasons = [
        f"its {kind} {alias!r} is {what}"
        for kind, infos in (("input", definition.inputs), ("output", definition.outputs))
        for alias in sorted(infos)
        if (what := _no_tensor(infos[alias], alias, kind))
    ]
    return reasons if definition.outputs else [*reasons, "it has no outputs"]


def _no_tensor(info: Any, alias: str, kind: str) -> str:
    """What a `TensorInfo` is if not a tensor, and what to do about it; empty for a tensor."""
    match info.WhichOneof("encoding"):
        case "name":
            return _unknown_dtype(info)
        case "coo_sparse":
            name = "SPARSE_TENSOR_SPEC"
        case "composite_tensor":
            spec = info.composite_tensor.type_spec
            classes = spec.DESCRIPTOR.fields_by_name["type_spec_class"].enum_type
            known = classes.values_by_number.get(spec.type_spec_class)
            name = known.name if known else ""
        case _:
            return f"nothing that the graph has. Export a tensor as {alias!r}"
    what, parts = _COMPOSITES.get(name, ("no plain tensor but a composite one", "its tensors"))
    plain = parts.format(alias)
    if kind == "input":
        return f"{what}. Take {plain} as inputs of their own and build it in the function"
    return f"{what}. Export {plain} as outputs of their own"


def _unknown_dtype(info: Any) -> str:
    try:
        known = DType.of_number(info.dtype)
    except ValueError:
        return f"of dtype {info.dtype}, which this version does not know"
    if known is DType.INVALID:
        return f"the operation {info.name}, which gives no value. Export a tensor"
    return ""


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """The specs by name, sorted by name."""
    return {name: _spec(infos[name]) for name in sorted(infos)}


def _spec(info: Any) -> TensorSpec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        sizes = (dim.size for dim in info.tensor_shape.dim)
        shape = tuple(None if size < 0 else size for size in sizes)
    return TensorSpec(DType.of_number(info.dtype), shape, info.name)


def _plain_specs(infos: Mapping[str, TensorInfo]) -> dict[str, TensorSpec]:
    """The specs by name, sorted by name; raises ValueError for an unknown dtype and for none."""
    return {name: _plain_spec(infos[name]) for name in sorted(infos)}


def _plain_spec(info: TensorInfo) -> TensorSpec:
    dtype = DType.of_number(info.dtype)
    if dtype is DType.INVALID:
        raise ValueError(info.name)
    shape = info.shape
    if shape is not None:
        return TensorSpec(dtype, tuple(None if size < 0 else size for size in shape), info.name)
    return TensorSpec(dtype, None, info.name)
