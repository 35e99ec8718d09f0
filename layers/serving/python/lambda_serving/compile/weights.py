"""Moves weights from a graph into files, in the format of `servables.compiled_folder`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lambda_serving.compile.graph_edits import drop, set_inputs
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.compiled_folder import ASSIGNMENT, FEED, WEIGHTS
from lambda_serving.servables.graph_defs import constant, node_name, reachable
from lambda_serving.servables.tensorflow_c.weights_reader import file_name

__all__ = ["LEAST_BYTES", "map_constants", "map_variables"]

LEAST_BYTES = 32 * 1024
"""Smaller constants stay in the graph: TensorFlow reads them from it as quickly as a file is
mapped, in about 0.2 ms."""


def map_constants(graph: Any, folder: Path, at_start: Iterable[str]) -> int:
    """Moves the large constants of a graph into files below `folder`; returns their bytes.

    Strings stay in the graph, and so do constants needed `at_start`, such as contents of tables,
    because weights are mapped later. Constants with control inputs, as inside loops, stay too.
    """
    too_early = reachable(graph, at_start)
    made = _made(graph)
    moved = 0
    for node in list(graph.node):
        if node.op != "Const" or node.name in too_early or node.input:
            continue
        if node.attr["dtype"].type == DType.STRING or node.ByteSize() < LEAST_BYTES:
            continue
        value = constant(node)
        if value.nbytes >= LEAST_BYTES:
            moved += value.nbytes
            _read_from(node, _variable(graph, value, folder, made))
    return moved


def map_variables(graph: Any, values: Mapping[str, Array], folder: Path) -> int:
    """Moves the values of a graph's remaining variables into files; returns their bytes."""
    made = _made(graph)
    names = {name: _variable(graph, value, folder, made) for name, value in values.items()}
    for node in graph.node:
        inputs = [names.get(node_name(each), each) for each in node.input]
        if inputs != list(node.input):
            set_inputs(node, inputs)
    drop(graph, names)
    return sum(value.nbytes for value in values.values())


def _made(graph: Any) -> set[str]:
    return {node.name for node in graph.node if node.op == "VarHandleOp"}


def _variable(graph: Any, value: Array, folder: Path, made: set[str]) -> str:
    """The name of a variable whose value lies in a file; equal values share one.

    Adds it to the graph and to `made`, and writes the file, unless they exist already.
    """
    content = value.tobytes()
    name = WEIGHTS + file_name(DType.of(value.dtype), value.shape, content)
    if not (folder / name).exists():
        (folder / WEIGHTS).mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    if name not in made:
        _add_variable(graph, name, value)
        made.add(name)
    return name


def _add_variable(graph: Any, name: str, value: Array) -> None:
    dtype = DType.of(value.dtype)
    handle = graph.node.add(name=name, op="VarHandleOp")
    handle.attr["shared_name"].s = name.encode()
    feed = graph.node.add(name=name + FEED, op="Placeholder")
    assignment = graph.node.add(name=name + ASSIGNMENT, op="AssignVariableOp")
    assignment.input.extend((name, name + FEED))
    for node in (handle, feed, assignment):
        node.attr["dtype"].type = dtype
    for node in (handle, feed):
        node.attr["shape"].shape.SetInParent()  # also for a scalar
        for size in value.shape:
            node.attr["shape"].shape.dim.add(size=size)


def _read_from(node: Any, variable: str) -> None:
    """Turns a constant into a read of a variable."""
    dtype = node.attr["dtype"].type
    node.op = "ReadVariableOp"
    node.attr.clear()
    node.attr["dtype"].type = dtype
    node.input.append(variable)
