"""Signatures out of a serialized `MetaGraphDef`."""

from collections.abc import Mapping
from typing import Any

from lambda_serving import protos
from lambda_serving.dtypes import DType
from lambda_serving.servable import Signature, TensorSpec
from lambda_serving.tensor_proto import to_array

__all__ = ["definitions", "signatures"]

_INIT_OP = "__saved_model_init_op"


def definitions(meta_graph: bytes) -> dict[str, bytes]:
    """Every `SignatureDef` of a meta graph by name, serialized, as the metadata call shows them."""
    graph = protos.message("tensorflow.MetaGraphDef").FromString(meta_graph)
    return {
        name: definition.SerializeToString()
        for name, definition in sorted(graph.signature_def.items())
    }


def signatures(definitions: Mapping[str, bytes]) -> dict[str, Signature]:
    """The signatures that can be called: those whose inputs and outputs are all plain tensors.

    Left out are the init op and signatures over sparse or composite tensors or bare operations.
    """
    found = {}
    for name, serialized in definitions.items():
        definition = protos.message("tensorflow.SignatureDef").FromString(serialized)
        inputs, outputs = _specs(definition.inputs), _specs(definition.outputs)
        if name != _INIT_OP and inputs is not None and outputs:
            found[name] = Signature(
                name=name,
                inputs=inputs,
                outputs=outputs,
                method_name=definition.method_name,
                definition=serialized,
                defaults={key: to_array(value) for key, value in definition.defaults.items()},
            )
    return found


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec] | None:
    """Specs by name, sorted; None when one of them is not a plain tensor of a known dtype."""
    known = set(DType) - {DType.INVALID}
    if any(
        info.WhichOneof("encoding") != "name" or info.dtype not in known for info in infos.values()
    ):
        return None
    return {name: _spec(infos[name]) for name in sorted(infos)}


def _spec(info: Any) -> TensorSpec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        sizes = (dim.size for dim in info.tensor_shape.dim)
        shape = tuple(None if size < 0 else size for size in sizes)
    return TensorSpec(DType(info.dtype), shape, info.name)
