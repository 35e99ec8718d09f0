"""Signatures out of meta graphs that are written here, message by message."""

from typing import Any

import numpy as np

from lambda_serving import protos
from lambda_serving.dtypes import DType
from lambda_serving.servables import signature_defs
from lambda_serving.servables.servable import Signature, TensorSpec


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


def test_reason_names_what_is_no_tensor_and_what_to_export_instead() -> None:
    info = protos.message("tensorflow.TensorInfo")
    sparse = info(dtype=int(DType.FLOAT))
    sparse.coo_sparse.values_tensor_name = "values:0"

    def composite(type_spec_class: str) -> Any:
        made = info()
        made.composite_tensor.type_spec.type_spec_class = type_spec_class
        made.composite_tensor.components.add(name="values:0")
        return made

    graph = _meta_graph(
        fine=_definition({}, {"y": _info("y:0", DType.FLOAT)}),
        __saved_model_train_op=_definition({}, {"x": _info("train", DType.INVALID)}),
        coo=_definition({"x": sparse}, {"y": sparse}),
        ragged=_definition({"x": composite("RAGGED_TENSOR_SPEC")}, _Y),
        sparse=_definition({}, {"y": composite("SPARSE_TENSOR_SPEC"), "z": _Y["y"]}),
        slices=_definition({}, {"y": composite("INDEXED_SLICES_SPEC")}),
        other=_definition({}, {"y": composite("EXTENSION_TYPE_SPEC")}),
        dtype=_definition({}, {"y": info(name="y:0", dtype=9999)}),
        operation=_definition({}, {"y": _info("train", DType.INVALID)}),
        nothing=_definition({}, {"y": info()}),
        silent=_definition(_Y, {}),
    )

    found = signature_defs.uncallable(signature_defs.definitions(graph))

    says = {name: reason.partition(" cannot be called: ")[2] for name, reason in found.items()}
    assert says == {
        "coo": "its input 'x' is a SparseTensor. Take x.indices, x.values and x.dense_shape as"
        " inputs of their own and build it in the function; its output 'y' is a SparseTensor."
        " Export y.indices, y.values and y.dense_shape as outputs of their own",
        "ragged": "its input 'x' is a RaggedTensor. Take x.values and x.row_splits (or"
        " x.flat_values and each of x.nested_row_splits) as inputs of their own and build it in"
        " the function",
        "sparse": "its output 'y' is a SparseTensor. Export y.indices, y.values and"
        " y.dense_shape as outputs of their own",
        "slices": "its output 'y' is IndexedSlices. Export y.indices and y.values as outputs of"
        " their own",
        "other": "its output 'y' is no plain tensor but a composite one. Export its tensors as"
        " outputs of their own",
        "dtype": "its output 'y' is of dtype 9999, which this version does not know",
        "operation": "its output 'y' is the operation train, which gives no value. Export a tensor",
        "nothing": "its output 'y' is nothing that the graph has. Export a tensor as 'y'",
        "silent": "it has no outputs",
    }
    assert found["silent"] == "Signature 'silent' cannot be called: it has no outputs"


def test_reference_to_a_variable_is_a_tensor_of_its_dtype() -> None:
    definition = _definition({}, {"y": protos.message("tensorflow.TensorInfo")(name="v:0")})
    definition.outputs["y"].dtype = 100 + DType.INT64
    definitions = signature_defs.definitions(_meta_graph(s=definition))
    assert signature_defs.signatures(definitions)["s"].outputs == {
        "y": TensorSpec(DType.INT64, (), "v:0")
    }


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
