"""Which variables are written, and how the others become constants."""

from typing import Any

import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.compile.variables import freeze, variables, writers
from lambda_serving.servables.graph_defs import constant
from support.graphs import add, graph, node


def _value(*numbers: float) -> Any:
    array = np.array(numbers, np.float32)
    tensor = protos.message("tensorflow.TensorProto")(dtype=1, tensor_content=array.tobytes())
    tensor.tensor_shape.dim.add(size=len(numbers))
    return tensor


def _function(of: Any, name: str, *arguments: str) -> Any:
    made = of.library.function.add()
    made.signature.name = name
    for argument in arguments:
        made.signature.input_arg.add(name=argument)
    return made


def _add_inside(function: Any, op: str, name: str, *inputs: str, **attributes: str) -> None:
    made = function.node_def.add(op=op, name=name, input=inputs)
    for key, called in attributes.items():
        made.attr[key].func.name = called


def test_reads_are_not_writes() -> None:
    made = graph()
    add(made, "VarHandleOp", "v")
    add(made, "Identity", "passed", "v")
    add(made, "ReadVariableOp", "read", "passed")
    add(made, "ResourceGather", "gathered", "v", "indices")
    add(made, "VariableShape", "shape", "v")
    add(made, "Placeholder", "indices")
    add(made, "NoOp", "all", "^read", "^gathered", "^shape")
    assert writers(made, ["all"], ["v"]) == []


@pytest.mark.parametrize(
    "op", ["AssignVariableOp", "ResourceScatterAdd", "RngReadAndSkip", "Mystery"]
)
def test_whatever_else_takes_a_handle_may_write(op: str) -> None:
    made = graph()
    add(made, "VarHandleOp", "v")
    add(made, "VarHandleOp", "w")
    add(made, "Enter", "entered", "v")
    add(made, "Switch", "branches", "entered", "condition")
    add(made, "Placeholder", "condition")
    add(made, op, "out", "branches:1", "condition")
    assert writers(made, ["out"], ["v", "w"]) == [f"{op} (out)"]
    assert writers(made, ["out"], ["w"]) == []
    assert writers(made, ["entered"], ["v", "w"]) == []


def test_handles_among_others_are_told_apart_by_their_place() -> None:
    made = graph()
    add(made, "VarHandleOp", "v")
    add(made, "Placeholder", "x")
    add(made, "IdentityN", "both", "x", "v")
    add(made, "Neg", "minus", "both:0")
    add(made, "AssignVariableOp", "assign", "both:1", "x")
    assert writers(made, ["minus"], ["v"]) == []
    assert writers(made, ["assign"], ["v"]) == ["AssignVariableOp (assign)"]


@pytest.mark.parametrize(
    ("op", "before", "attribute"),
    [
        ("StatefulPartitionedCall", (), "f"),
        ("While", (), "body"),
        ("If", ("condition",), "then_branch"),
    ],
)
def test_handles_are_followed_into_functions(
    op: str, before: tuple[str, ...], attribute: str
) -> None:
    made = graph()
    add(made, "VarHandleOp", "v")
    add(made, "Placeholder", "x")
    add(made, "Placeholder", "condition")
    add(made, op, "call", *before, "x", "v", **{attribute: "outer"})
    outer = _function(made, "outer", "number", "handle")
    _add_inside(outer, "PartitionedCall", "deeper", "handle", f="inner")
    inner = _function(made, "inner", "resource")
    _add_inside(inner, "ReadVariableOp", "read", "resource")
    assert writers(made, ["call"], ["v"]) == []
    _add_inside(inner, "IdentityN", "same", "resource")
    _add_inside(inner, "AssignAddVariableOp", "added", "same:output:0", "read:value:0")
    assert writers(made, ["call"], ["v"]) == ["AssignAddVariableOp (added)"]


def test_function_called_by_its_name_as_operation_is_followed() -> None:
    made = graph()
    add(made, "VarHandleOp", "v")
    add(made, "grow", "call", "v")
    _add_inside(_function(made, "grow", "handle"), "AssignVariableOp", "assign", "handle")
    assert writers(made, ["call"], ["v"]) == ["AssignVariableOp (assign)"]


def test_old_variables_are_written_by_their_own_operations() -> None:
    made = graph()
    add(made, "VariableV2", "v")
    add(made, "Identity", "read", "v")
    add(made, "AssignAdd", "grown", "v", "read")
    assert writers(made, ["read"], ["v"]) == []
    assert writers(made, ["grown"], ["v"]) == ["AssignAdd (grown)"]


def test_reads_become_constants_and_other_uses_stay() -> None:
    made = graph()
    add(made, "VarHandleOp", "v")
    add(made, "VarHandleOp", "unknown")
    add(made, "Identity", "passed", "v")
    add(made, "ReadVariableOp", "read", "passed", "^v")
    add(made, "ReadVariableOp", "other", "unknown")
    add(made, "Enter", "entered", "v")
    add(made, "ReadVariableOp", "inside", "entered")
    add(made, "VariableV2", "old")

    freeze(made, {"v": _value(1, 2), "old": _value(3)})

    assert [(name, node(made, name).op) for name in ("read", "other", "inside", "old")] == [
        ("read", "Const"),
        ("other", "ReadVariableOp"),
        ("inside", "ReadVariableOp"),
        ("old", "Const"),
    ]
    assert constant(node(made, "read")).tolist() == [1.0, 2.0]
    assert list(node(made, "read").input) == []
    assert constant(node(made, "old")).tolist() == [3.0]
    assert [each.name for each in variables(made)] == ["v", "unknown"]
