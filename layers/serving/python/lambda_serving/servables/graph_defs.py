"""Reads the graphs of SavedModels, and answers questions to a `GraphDef`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.dtypes import Array
from lambda_serving.protos.tensor_proto import to_array

__all__ = [
    "by_name",
    "called_functions",
    "constant",
    "consumers",
    "control_inputs",
    "data_inputs",
    "in_order",
    "meta_graphs",
    "node_name",
    "nodes_run",
    "op_set",
    "reachable",
    "tensor_names",
]


def meta_graphs(export_dir: Path) -> Sequence[Any] | None:
    """The meta graphs of a SavedModel; None if `saved_model.pb` cannot be read or parsed."""
    from google.protobuf.message import DecodeError

    try:
        content = (export_dir / "saved_model.pb").read_bytes()
        model = protos.message("tensorflow.SavedModel").FromString(content)
    except (OSError, DecodeError):  # TensorFlow will report it
        return None
    found: Sequence[Any] = model.meta_graphs
    return found


def by_name(graph: Any) -> dict[str, Any]:
    """The nodes of a graph by name, outside of functions."""
    return {node.name: node for node in graph.node}


def op_set(names: str) -> frozenset[str]:
    """Names of operations, from a text that lists them."""
    return frozenset(names.split())


def node_name(tensor: str) -> str:
    """The node that an input names: `x` for `x`, `x:1` and `^x`."""
    return tensor.removeprefix("^").partition(":")[0]


def data_inputs(node: Any) -> list[str]:
    """The inputs of a node that carry a tensor."""
    return [each for each in node.input if not each.startswith("^")]


def control_inputs(node: Any) -> list[str]:
    """The inputs of a node that only make it wait for another."""
    return [each for each in node.input if each.startswith("^")]


def reachable(graph: Any, names: Iterable[str]) -> set[str]:
    """Names of these nodes and of all nodes that they need."""
    nodes = by_name(graph)
    waiting = [name for name in names if name in nodes]
    found = set(waiting)
    while waiting:
        for source in map(node_name, nodes[waiting.pop()].input):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def nodes_run(graph: Any, names: Iterable[str]) -> list[Any]:
    """The nodes that these nodes need, then the nodes of all functions that they call."""
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
    """Names of the functions that a node may call: its operation, and those in its attributes."""
    yield node.op
    for attribute in node.attr.values():
        for function in (attribute.func, *attribute.list.func):
            if function.name:
                yield function.name


def in_order(graph: Any) -> list[Any]:
    """The nodes in topological order; those of loops come last, in no order."""
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


def consumers(graph: Any) -> dict[str, list[Any]]:
    """For each node, the nodes that take its outputs, once for every input."""
    found: dict[str, list[Any]] = {node.name: [] for node in graph.node}
    for node in graph.node:
        for each in data_inputs(node):
            found[node_name(each)].append(node)
    return found


def constant(node: Any) -> Array:
    """The value of a `Const` node."""
    return to_array(node.attr["value"].tensor)


def tensor_names(info: Any) -> Iterator[str]:
    """The names of the tensors that a `TensorInfo` stands for."""
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
