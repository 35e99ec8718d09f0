"""The small changes to a `GraphDef` that rewrites are made of."""

from collections.abc import Collection, Iterable
from typing import Any

from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.graph_defs import reachable

__all__ = ["add_constant", "become", "drop", "drop_needless_order", "prune", "set_inputs"]

_THERE = frozenset(("Const", "HashTableV2", "MutableHashTableV2", "Placeholder", "VarHandleOp"))


def set_inputs(node: Any, inputs: Iterable[str]) -> None:
    """Replaces the inputs of a node; tensors must come first."""
    inputs = list(inputs)
    del node.input[:]
    node.input.extend(inputs)


def prune(graph: Any, names: Iterable[str]) -> None:
    """Drops every node that these nodes do not need."""
    drop(graph, {node.name for node in graph.node} - reachable(graph, names))


def drop(graph: Any, names: Collection[str]) -> None:
    """Removes the nodes of these names."""
    left = [node for node in graph.node if node.name not in names]
    del graph.node[:]
    graph.node.extend(left)


def become(node: Any, other: Any) -> None:
    """Makes `node` a copy of `other` that keeps its own name."""
    name = node.name
    node.CopyFrom(other)
    node.name = name


def drop_needless_order(graph: Any) -> None:
    """Removes control inputs from nodes that are ready at once, such as constants.

    Inlining makes every node of a function wait for its arguments, such as the handles of tables.
    """
    there = {f"^{node.name}" for node in graph.node if node.op in _THERE and not node.input}
    for node in graph.node:
        if there.intersection(node.input):
            set_inputs(node, [each for each in node.input if each not in there])


def add_constant(graph: Any, name: str, value: Array) -> str:
    """Adds a `Const` node, not of strings, and returns its name."""
    node = graph.node.add(name=name, op="Const")
    dtype = DType.of(value.dtype)
    node.attr["dtype"].type = dtype
    tensor = node.attr["value"].tensor
    tensor.dtype = dtype
    for size in value.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = value.tobytes()
    return name
