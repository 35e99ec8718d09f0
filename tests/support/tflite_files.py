"""`.tflite` files made from others, with LiteRT's own classes for its schema."""

from collections.abc import Callable, Mapping
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from lambda_serving import protos

__all__ = [
    "custom_operation",
    "dividing",
    "edited",
    "newer_operation",
    "newer_schema",
    "twice",
    "with_metadata",
    "with_self",
    "without_operations",
    "without_signatures",
]


def edited(content: bytes, *edits: Callable[[Any], object]) -> bytes:
    """The file after each of `edits` has changed its `ModelT`."""
    model = schema.ModelT.InitFromPackedBuf(content)
    for edit in edits:
        edit(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def without_signatures(model: Any) -> None:
    """Makes a file like those of converters before 2020: its tensors have names, none is free."""
    model.signatureDefs = None
    for tensor in model.subgraphs[0].tensors:
        tensor.shapeSignature = None
        tensor.hasRank = False


def with_metadata(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Callable[[Any], None]:
    """Adds the signature `serving_default` as TensorFlow Serving's tools do, tensors by name."""

    def edit(model: Any) -> None:
        definition = protos.message("tensorflow.SignatureDef")()
        for infos, names in ((definition.inputs, inputs), (definition.outputs, outputs)):
            for alias, name in names.items():
                infos[alias].name, infos[alias].dtype = name, 1
        builder = flexbuffers.Builder()
        with builder.Map():
            builder.Key("serving_default")
            builder.String(definition.SerializeToString().decode("ascii"))
        buffer, metadata = schema.BufferT(), schema.MetadataT()
        buffer.data = list(builder.Finish())
        metadata.name, metadata.buffer = "signature_defs_metadata", len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [metadata]

    return edit


def newer_schema(model: Any) -> None:
    model.version = 4


def newer_operation(model: Any) -> None:
    model.operatorCodes[0].version = 999


def custom_operation(name: str) -> Callable[[Any], None]:
    """Puts an operation of this name in the place of the first."""

    def edit(model: Any) -> None:
        code = model.operatorCodes[0]
        code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = name
        model.subgraphs[0].operators[0].builtinOptions = None
        model.subgraphs[0].operators[0].builtinOptionsType = 0

    return edit


def twice(model: Any) -> None:
    """Lists the signature a second time."""
    model.signatureDefs = model.signatureDefs * 2


def with_self(model: Any) -> None:
    """Calls the input of the signature `self`."""
    model.signatureDefs[0].inputs[0].name = "self"


def dividing(divisor: int | None) -> Callable[[Any], None]:
    """Makes a model of two operations compute `x // divisor`; `x // x` for None."""

    def edit(model: Any) -> None:
        graph = model.subgraphs[0]
        operator = graph.operators[0]
        x, constant = graph.inputs[0], operator.inputs[1]
        for tensor in graph.tensors:
            tensor.type = schema.TensorType.INT32
        code = model.operatorCodes[operator.opcodeIndex]
        code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.FLOOR_DIV
        code.version = 2
        operator.builtinOptions, operator.builtinOptionsType = None, 0
        operator.inputs = [x, x if divisor is None else constant]
        operator.outputs = graph.outputs
        graph.operators = [operator]
        buffer = model.buffers[graph.tensors[constant].buffer]
        buffer.data = list((divisor or 0).to_bytes(4, "little", signed=True))

    return edit


def without_operations(model: Any) -> None:
    """Lets nothing compute the output, a string: LiteRT reads it nevertheless, and crashes."""
    graph = model.subgraphs[0]
    graph.operators = []
    graph.tensors[graph.outputs[0]].type = schema.TensorType.STRING
