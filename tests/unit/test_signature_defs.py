"""Signatures out of meta graphs that are written here, message by message."""

from typing import Any

import numpy as np

from lambda_serving import protos, signature_defs
from lambda_serving.dtypes import DType
from lambda_serving.servable import Signature, TensorSpec


def _meta_graph(**signatures: Any) -> bytes:
    graph = protos.message("tensorflow.MetaGraphDef")()
    for name, definition in signatures.items():
        graph.signature_def[name].CopyFrom(definition)
    serialized: bytes = graph.SerializeToString()
    return serialized


def _definition(inputs: dict[str, Any], outputs: dict[str, Any], method_name: str = "") -> Any:
    definition = protos.message("tensorflow.SignatureDef")(method_name=method_name)
    for name, info in inputs.items():
        definition.inputs[name].CopyFrom(info)
    for name, info in outputs.items():
        definition.outputs[name].CopyFrom(info)
    return definition


def _info(name: str, dtype: DType, *sizes: int, unknown_rank: bool = False) -> Any:
    info = protos.message("tensorflow.TensorInfo")(name=name, dtype=int(dtype))
    info.tensor_shape.unknown_rank = unknown_rank
    for size in sizes:
        info.tensor_shape.dim.add(size=size)
    return info


_Y = {"y": _info("y:0", DType.FLOAT)}


def _names(**signatures: Any) -> list[str]:
    return list(signature_defs.signatures(signature_defs.definitions(_meta_graph(**signatures))))


def test_signature_has_its_tensors_sorted_by_name() -> None:
    definition = _definition(
        {
            "b": _info("b:0", DType.STRING, unknown_rank=True),
            "a": _info("a:0", DType.INT64, -1, 3),
        },
        {"z": _info("call:1", DType.HALF), "y": _info("call:0", DType.FLOAT, -1)},
        "tensorflow/serving/predict",
    )

    definitions = signature_defs.definitions(_meta_graph(serving_default=definition))
    found = signature_defs.signatures(definitions)

    assert found == {
        "serving_default": Signature(
            name="serving_default",
            inputs={
                "a": TensorSpec(DType.INT64, (None, 3), "a:0"),
                "b": TensorSpec(DType.STRING, None, "b:0"),
            },
            outputs={
                "y": TensorSpec(DType.FLOAT, (None,), "call:0"),
                "z": TensorSpec(DType.HALF, (), "call:1"),
            },
            method_name="tensorflow/serving/predict",
            definition=definitions["serving_default"],
            defaults={},
        )
    }
    assert list(found["serving_default"].inputs) == ["a", "b"]
    assert list(found["serving_default"].outputs) == ["y", "z"]


def test_definitions_are_the_messages_of_the_graph_sorted_by_name() -> None:
    one, two = _definition({}, _Y), _definition(_Y, _Y)
    definitions = signature_defs.definitions(_meta_graph(b=two, a=one))
    message = protos.message("tensorflow.SignatureDef")
    assert [(name, message.FromString(text)) for name, text in definitions.items()] == [
        ("a", one),
        ("b", two),
    ]


def test_init_op_is_shown_but_not_served() -> None:
    graph = _meta_graph(__saved_model_init_op=_definition({}, {"x": _info("NoOp", DType.INVALID)}))
    definitions = signature_defs.definitions(graph)
    assert list(definitions) == ["__saved_model_init_op"]
    assert signature_defs.signatures(definitions) == {}


def test_signature_over_other_things_than_tensors_is_not_served() -> None:
    sparse = protos.message("tensorflow.TensorInfo")(dtype=int(DType.FLOAT))
    sparse.coo_sparse.values_tensor_name = "values:0"
    composite = protos.message("tensorflow.TensorInfo")()
    composite.composite_tensor.components.add(name="row_splits:0")
    unknown_dtype = protos.message("tensorflow.TensorInfo")(name="x:0", dtype=9999)

    assert _names(
        fine=_definition(_Y, _Y),
        sparse_input=_definition({"x": sparse}, _Y),
        sparse_output=_definition({}, {"x": sparse}),
        composite=_definition({"x": composite}, _Y),
        unknown_dtype=_definition({"x": unknown_dtype}, _Y),
        operation=_definition({}, {"train": _info("train", DType.INVALID)}),
        without_outputs=_definition(_Y, {}),
    ) == ["fine"]


def test_signature_without_inputs_is_served() -> None:
    assert _names(constant=_definition({}, _Y)) == ["constant"]


def test_defaults_are_arrays_by_input() -> None:
    definition = _definition({"x": _info("x:0", DType.FLOAT, -1)}, _Y)
    definition.defaults["x"].dtype = int(DType.FLOAT)
    definition.defaults["x"].tensor_shape.dim.add(size=2)
    definition.defaults["x"].float_val.append(1.5)

    definitions = signature_defs.definitions(_meta_graph(s=definition))
    defaults = signature_defs.signatures(definitions)["s"].defaults

    assert list(defaults) == ["x"]
    np.testing.assert_array_equal(defaults["x"], np.array([1.5, 1.5], np.float32), strict=True)
