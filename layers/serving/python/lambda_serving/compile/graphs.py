"""Questions to a `GraphDef`, and the small changes that rewrites are made of."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from lambda_serving.dtypes import Array, DType
from lambda_serving.protos.tensor_proto import to_array

__all__ = [
    "NotCompilable",
    "add_constant",
    "become",
    "called_functions",
    "constant",
    "consumers",
    "control_inputs",
    "data_inputs",
    "drop",
    "drop_needless_order",
    "in_order",
    "node_name",
    "nodes_run",
    "op_set",
    "prune",
    "reachable",
    "set_inputs",
    "tensor_names",
]


_THERE = frozenset(("Const", "HashTableV2", "MutableHashTableV2", "Placeholder", "VarHandleOp"))


class NotCompilable(Exception):
    """The model is served as exported; the message says why.

    `details` holds TensorFlow's own output, if it failed.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


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


def set_inputs(node: Any, inputs: Iterable[str]) -> None:
    """Replaces the inputs of a node; tensors must come first."""
    inputs = list(inputs)
    del node.input[:]
    node.input.extend(inputs)


def reachable(graph: Any, names: Iterable[str]) -> set[str]:
    """Names of these nodes and of all nodes that they need."""
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
