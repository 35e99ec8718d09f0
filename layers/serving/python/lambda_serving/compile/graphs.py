"""What one asks of a `GraphDef` before changing it, and the constants in it."""

from collections.abc import Iterable, Iterator
from typing import Any

from lambda_serving.dtypes import Array, DType
from lambda_serving.protos.tensor_proto import to_array

__all__ = [
    "Refused",
    "add_constant",
    "called_functions",
    "constant",
    "consumers",
    "control_inputs",
    "data_inputs",
    "drop_needless_order",
    "in_order",
    "node_name",
    "nodes_run",
    "prune",
    "reachable",
    "set_inputs",
    "tensor_names",
]


_THERE = frozenset(("Const", "HashTableV2", "MutableHashTableV2", "Placeholder", "VarHandleOp"))


class Refused(Exception):
    """The model cannot be compiled; the message says why."""


def node_name(tensor: str) -> str:
    """The node of an input: `^x`, `x:1` and `x` are all of `x`."""
    return tensor.removeprefix("^").partition(":")[0]


def data_inputs(node: Any) -> list[str]:
    """The inputs of a node that carry a tensor, not only an order."""
    return [each for each in node.input if not each.startswith("^")]


def control_inputs(node: Any) -> list[str]:
    """The inputs of a node that carry nothing but an order."""
    return [each for each in node.input if each.startswith("^")]


def set_inputs(node: Any, inputs: Iterable[str]) -> None:
    """Other inputs for a node, the tensors first."""
    inputs = list(inputs)
    del node.input[:]
    node.input.extend(inputs)


def reachable(graph: Any, names: Iterable[str]) -> set[str]:
    """Names of the nodes that these nodes need, themselves included."""
    nodes = {node.name: node for node in graph.node}
    waiting = [name for name in names if name in nodes]
    found = set(waiting)
    while waiting:
        for source in map(node_name, nodes[waiting.pop()].input):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def nodes_run(graph: Any, names: Iterable[str]) -> list[Any]:
    """The nodes that these nodes need, then those of all functions that are called by them."""
    functions = {each.signature.name: each for each in graph.library.function}
    needed, called = reachable(graph, names), set[str]()
    found = [node for node in graph.node if node.name in needed]
    for node in found:  # which grows
        for name in called_functions(node):
            if name in functions and name not in called:
                called.add(name)
                found.extend(functions[name].node_def)
    return found


def called_functions(node: Any) -> Iterator[str]:
    """Names of the functions that a node may call: its attributes, and its own operation."""
    yield node.op
    for attribute in node.attr.values():
        for function in (attribute.func, *attribute.list.func):
            if function.name:
                yield function.name


def in_order(graph: Any) -> list[Any]:
    """The nodes, each behind those that it needs; those of loops at the end, in no order."""
    users: dict[str, list[Any]] = {node.name: [] for node in graph.node}
    waiting = {node.name: len(node.input) for node in graph.node}
    for node in graph.node:
        for each in node.input:
            users[node_name(each)].append(node)
    found = [node for node in graph.node if not node.input]
    for node in found:  # which grows
        for user in users[node.name]:
            waiting[user.name] -= 1
            if not waiting[user.name]:
                found.append(user)
    return found + [node for node in graph.node if waiting[node.name]]


def prune(graph: Any, names: Iterable[str]) -> None:
    """Drops every node that these nodes do not need."""
    needed = reachable(graph, names)
    kept = [node for node in graph.node if node.name in needed]
    del graph.node[:]
    graph.node.extend(kept)


def drop_needless_order(graph: Any) -> None:
    """Nodes no longer wait for what is there from the beginning.

    Inlining makes all of a function wait for its arguments, handles of tables say.
    """
    there = {f"^{node.name}" for node in graph.node if node.op in _THERE and not node.input}
    for node in graph.node:
        if there.intersection(node.input):
            set_inputs(node, [each for each in node.input if each not in there])


def consumers(graph: Any) -> dict[str, list[Any]]:
    """The nodes that take an output of each node, as often as they do."""
    found: dict[str, list[Any]] = {node.name: [] for node in graph.node}
    for node in graph.node:
        for each in data_inputs(node):
            found[node_name(each)].append(node)
    return found


def constant(node: Any) -> Array:
    """The value of a `Const` node."""
    return to_array(node.attr["value"].tensor)


def add_constant(graph: Any, name: str, value: Array) -> str:
    """A new `Const` node with a value that is no string; its name."""
    node = graph.node.add(name=name, op="Const")
    dtype = DType.of(value.dtype)
    node.attr["dtype"].type = dtype
    tensor = node.attr["value"].tensor
    tensor.dtype = dtype
    for size in value.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = value.tobytes()
    return name


def tensor_names(info: Any) -> Iterator[str]:
    """The tensors in the graph that a `TensorInfo` stands for."""
    match info.WhichOneof("encoding"):
        case "name":
            yield info.name
        case "coo_sparse":
            sparse = info.coo_sparse
            yield sparse.values_tensor_name
            yield sparse.indices_tensor_name
            yield sparse.dense_shape_tensor_name
        case "composite_tensor":
            for component in info.composite_tensor.components:
                yield from tensor_names(component)
