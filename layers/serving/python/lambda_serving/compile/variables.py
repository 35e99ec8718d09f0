"""Variables of a graph: what becomes a constant, and whether anything writes them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lambda_serving.compile.graphs import called_functions, data_inputs, node_name, reachable
from lambda_serving.dtypes import DType

__all__ = ["OLD_VARIABLES", "freeze", "variables", "writers"]

_Tensor = tuple[str, int]
OLD_VARIABLES = frozenset(("Variable", "VariableV2"))
"""TensorFlow 1's variables, which are tensors themselves."""
_READERS = frozenset(
    (
        "LookupTableExportV2",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VarIsInitializedOp",
        "VariableShape",
    )
)
_ONE_OUTPUT = frozenset(("Enter", "Exit", "Identity", "Merge", "NextIteration"))
_BRANCHING = frozenset(("Case", "If", "RemoteCall", "StatelessCase", "StatelessIf"))
"""Calls whose first input is none of their functions' arguments."""
_OLD_WRITERS = (
    "Apply",
    "Assign",
    "CountUpTo",
    "Ref",
    "Scatter",
    "SparseApply",
    "StridedSliceAssign",
)
"""How the names of operations begin that change one of `OLD_VARIABLES`, or may pass it on."""


def writers(graph: Any, names: Iterable[str], variables: Iterable[str]) -> list[str]:
    """What may change these variables or tables when the nodes `names` are run.

    That is each operation that takes one of them and is not known to only read. Handles are
    followed through function calls, branches and loops.
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
    """Puts constants where variables are read; `values` are `TensorProto`s by variable.

    What takes a variable's handle for something else, a gather or a loop, goes on taking it.
    """
    nodes = {node.name: node for node in graph.node}
    for node in graph.node:
        variable = node.name
        if node.op == "ReadVariableOp":
            variable = _origin(nodes, node.input[0])
        elif node.op not in OLD_VARIABLES:
            continue
        if variable in values:
            _make_constant(node, values[variable])


def _origin(nodes: Mapping[str, Any], tensor: str) -> str:
    """The node that a handle comes from."""
    while nodes[node_name(tensor)].op == "Identity":
        tensor = nodes[node_name(tensor)].input[0]
    return node_name(tensor)


def _make_constant(node: Any, value: Any) -> None:
    """Without inputs: an order among reads means nothing when nothing writes."""
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
        if not taken or node.op in _READERS or _carries(node):
            continue
        bodies = list(_bodies(node, functions))
        if not bodies:
            yield _described(node)
        for body, offset in bodies:
            inside = {(name, 0) for name in _arguments(node, body, taken, offset)}
            yield from _writers(body.node_def, inside, functions)


def _arguments(node: Any, body: Any, taken: Sequence[int], offset: int) -> Iterable[str]:
    """The arguments of a function that stand for the inputs `taken` of the node that calls it.

    Data sets pass elements to their functions before what these capture, so there it may be any.
    """
    arguments = body.signature.input_arg
    if "Dataset" in node.op:
        return [argument.name for argument in arguments if argument.type == DType.RESOURCE]
    return [arguments[i - offset].name for i in taken if i >= offset]


def _spread(nodes: Iterable[Any], handles: set[_Tensor]) -> set[_Tensor]:
    """The handles, and every tensor that is one of them passed on."""
    found, before = set(handles), -1
    while len(found) > before:  # nodes stand in no order
        before = len(found)
        for node in filter(_carries, nodes):
            for i, each in enumerate(data_inputs(node)):
                if _tensor(each) in found:
                    found.update((node.name, output) for output in _outputs(node, i))
    return found


def _carries(node: Any) -> bool:
    return node.op in _ONE_OUTPUT or node.op in {"IdentityN", "Switch"}


def _outputs(node: Any, position: int) -> Iterable[int]:
    """Where a carrier gives out what it takes in at a position."""
    match node.op:
        case "IdentityN":
            return (position,)
        case "Switch":
            return (0, 1)
        case _:
            return (0,)


def _tensor(name: str) -> _Tensor:
    """`x`, `x:1`, and `x:output:1` as it is inside functions."""
    node, *rest = name.split(":")
    return node, int(rest[-1]) if rest else 0


def _bodies(node: Any, functions: Mapping[str, Any]) -> Iterator[tuple[Any, int]]:
    """The functions that a node calls, and which of its inputs is their first argument."""
    offset = 1 if node.op in _BRANCHING else 0
    for name in called_functions(node):
        if name in functions:
            yield functions[name], offset


def _described(node: Any) -> str:
    return f"{node.op} ({node.name})"
