"""Variables of a graph: makes them constants, and finds what writes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lambda_serving.dtypes import DType
from lambda_serving.servables.graph_defs import (
    by_name,
    called_functions,
    data_inputs,
    node_name,
    op_set,
    reachable,
)

__all__ = ["OLD_VARIABLES", "freeze", "variables", "writers"]

_Tensor = tuple[str, int]
OLD_VARIABLES = frozenset(("Variable", "VariableV2"))
"""TensorFlow 1's variables, which are tensors themselves."""
_READERS = op_set(
    """
    LookupTableExportV2 LookupTableFindV2 LookupTableSizeV2 ReadVariableOp ResourceGather
    ResourceGatherNd VarIsInitializedOp VariableShape
    """
)
_BRANCHING = frozenset(("Case", "If", "RemoteCall", "StatelessCase", "StatelessIf"))
"""Calls whose first input is not an argument of their functions."""
_OLD_WRITERS = (
    "Apply",
    "Assign",
    "CountUpTo",
    "Ref",
    "Scatter",
    "SparseApply",
    "StridedSliceAssign",
)
"""How the names begin of operations that change one of `OLD_VARIABLES` or may pass it on."""


def writers(graph: Any, names: Iterable[str], variables: Iterable[str]) -> list[str]:
    """The operations that may change these variables or tables in a run of the nodes `names`.

    Includes every operation that takes one of them and is not known to only read. Follows handles
    through function calls, branches and loops.
    """
    needed = reachable(graph, names)
    nodes = [node for node in graph.node if node.name in needed]
    functions = {each.signature.name: each for each in graph.library.function}
    watched = set(variables)
    old = {node.name for node in nodes if node.op in OLD_VARIABLES} & watched
    found = {
        _described(node)
        for node in nodes
        if node.op.startswith(_OLD_WRITERS) and old & set(map(node_name, data_inputs(node)))
    }
    return sorted(found.union(_writers(nodes, {(name, 0) for name in watched - old}, functions)))


def variables(graph: Any) -> list[Any]:
    """The nodes that stand for variables."""
    return [node for node in graph.node if node.op == "VarHandleOp" or node.op in OLD_VARIABLES]


def freeze(graph: Any, values: Mapping[str, Any]) -> None:
    """Replaces reads of variables by constants; `values` are `TensorProto`s by variable.

    Other users of a variable's handle, such as a gather or a loop, keep it.
    """
    nodes = by_name(graph)
    for node in graph.node:
        variable = node.name
        if node.op == "ReadVariableOp":
            variable = _origin(nodes, node.input[0])
        elif node.op not in OLD_VARIABLES:
            continue
        if variable in values:
            _make_constant(node, values[variable])


def _origin(nodes: Mapping[str, Any], tensor: str) -> str:
    """The node that created a handle."""
    while nodes[node_name(tensor)].op == "Identity":
        tensor = nodes[node_name(tensor)].input[0]
    return node_name(tensor)


def _make_constant(node: Any, value: Any) -> None:
    """Makes a node a constant without inputs: reads need no order if nothing writes."""
    del node.input[:]
    node.op = "Const"
    node.attr.clear()
    node.attr["dtype"].type = value.dtype
    node.attr["value"].tensor.CopyFrom(value)


def _writers(
    nodes: Iterable[Any], handles: set[_Tensor], functions: Mapping[str, Any]
) -> Iterator[str]:
    handles = _spread(nodes, handles)
    for node in nodes:
        taken = [i for i, each in enumerate(data_inputs(node)) if _tensor(each) in handles]
        if not taken or node.op in _READERS or _carried(node, 0):
            continue
        bodies = list(_bodies(node, functions))
        if not bodies:
            yield _described(node)
        for body, offset in bodies:
            inside = {(name, 0) for name in _arguments(node, body, taken, offset)}
            yield from _writers(body.node_def, inside, functions)


def _arguments(node: Any, body: Any, taken: Sequence[int], offset: int) -> Iterable[str]:
    """A function's arguments for the inputs `taken` of the node that calls it.

    Data sets pass elements before captured inputs, so for them it may be any resource argument.
    """
    arguments = body.signature.input_arg
    if "Dataset" in node.op:
        return [argument.name for argument in arguments if argument.type == DType.RESOURCE]
    return [arguments[i - offset].name for i in taken if i >= offset]


def _spread(nodes: Iterable[Any], handles: set[_Tensor]) -> set[_Tensor]:
    """The handles, and every tensor that passes one of them on."""
    found, before = set(handles), -1
    while len(found) > before:  # nodes are in no order
        before = len(found)
        for node in nodes:
            for i, each in enumerate(data_inputs(node)):
                if _tensor(each) in found:
                    found.update((node.name, output) for output in _carried(node, i))
    return found


def _carried(node: Any, position: int) -> tuple[int, ...]:
    """The outputs that pass on the input at a position; none if the node does something with it."""
    match node.op:
        case "IdentityN":
            return (position,)
        case "Switch":
            return (0, 1)
        case "Enter" | "Exit" | "Identity" | "Merge" | "NextIteration":
            return (0,)
        case _:
            return ()


def _tensor(name: str) -> _Tensor:
    """Parses `x`, `x:1`, and the `x:output:1` of functions."""
    node, *rest = name.split(":")
    return node, int(rest[-1]) if rest else 0


def _bodies(node: Any, functions: Mapping[str, Any]) -> Iterator[tuple[Any, int]]:
    """The functions that a node calls, and the index of the input that is their first argument."""
    offset = 1 if node.op in _BRANCHING else 0
    for name in called_functions(node):
        if name in functions:
            yield functions[name], offset


def _described(node: Any) -> str:
    return f"{node.op} ({node.name})"
