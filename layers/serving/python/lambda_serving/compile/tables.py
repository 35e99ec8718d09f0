"""Tables filled by the checkpoint: their contents become constants that the init op imports."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lambda_serving.compile import NotCompilable
from lambda_serving.compile.state import MUTABLE_TABLES
from lambda_serving.compile.variables import writers
from lambda_serving.dtypes import Array
from lambda_serving.servables.graph_defs import reachable

__all__ = ["INITIALISED", "Contents", "contents", "fill", "tables"]

Contents = Mapping[str, tuple[Array, Array]]
"""Keys and values, row by row, by the name of the table's node."""

INITIALISED = "lambda_serving/initialised"
_MOST_BYTES = 2**28
"""For all tables together: they are in the graph, which is read at every start."""


def tables(graph: Any, ends: Iterable[str], started: Collection[str]) -> list[Any]:
    """The tables that the nodes `ends` read.

    Raises NotCompilable if those nodes or the init op fill one.
    """
    needed = reachable(graph, ends)
    found = [node for node in graph.node if node.op in MUTABLE_TABLES and node.name in needed]
    if changing := writers(graph, ends, [node.name for node in found]):
        raise NotCompilable(f"it fills its tables as it answers: {', '.join(changing[:3])}")
    early = reachable(graph, started)
    for node in found:
        if node.name in early:
            raise NotCompilable(
                f"its init op uses the table {node.name}, which the checkpoint may fill"
            )
    return found


def contents(session: Any, nodes: Iterable[Any]) -> Contents:
    """The contents of tables, sorted by key; raises NotCompilable if a graph cannot hold them."""
    import tensorflow as tf

    exports = {
        node.name: tf.raw_ops.LookupTableExportV2(
            table_handle=session.graph.get_tensor_by_name(f"{node.name}:0"),
            Tkeys=node.attr["key_dtype"].type,
            Tvalues=node.attr["value_dtype"].type,
        )
        for node in nodes
    }
    found = {name: _sorted(*each) for name, each in session.run(exports).items()}
    size = sum(_bytes(array) for each in found.values() for array in each)
    if size > _MOST_BYTES:
        raise NotCompilable(
            f"its tables hold {size} bytes, and a compiled graph holds at most {_MOST_BYTES}"
        )
    return found


def fill(meta_graph: Any, contents: Contents, started: Iterable[str]) -> None:
    """Makes the init op, whose nodes are `started`, import the contents of the tables."""
    import tensorflow as tf

    graph, imports = meta_graph.graph_def, []
    for name, (keys, values) in contents.items():
        made = graph.node.add(name=f"{name}/lambda_serving_import", op="LookupTableImportV2")
        made.input.append(name)
        for end, attribute, array in (("keys", "Tin", keys), ("values", "Tout", values)):
            tensor = tf.make_tensor_proto(array)
            constant = graph.node.add(name=f"{made.name}/{end}", op="Const")
            constant.attr["dtype"].type = made.attr[attribute].type = tensor.dtype
            constant.attr["value"].tensor.CopyFrom(tensor)
            made.input.append(constant.name)
        imports.append(made.name)
    if imports:
        graph.node.add(
            name=INITIALISED, op="NoOp", input=[f"^{each}" for each in (*started, *imports)]
        )


def _sorted(keys: Array, values: Array) -> tuple[Array, Array]:
    """Sorts by key: a table exports its rows in an order that varies between processes."""
    order = sorted(
        range(len(keys)), key=lambda row: keys[row] if keys.dtype == object else keys[row].tobytes()
    )
    return keys[order], values[order]


def _bytes(array: Array) -> int:
    if array.dtype == object:
        return sum(len(each) for each in array.flat)
    return array.nbytes
