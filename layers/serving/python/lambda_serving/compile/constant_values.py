"""The values of variables, which become constants as far as they fit."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from lambda_serving.compile import NotCompilable
from lambda_serving.compile.graph_edits import drop_needless_order, prune
from lambda_serving.compile.meta_graphs import kept
from lambda_serving.compile.variables import OLD_VARIABLES, freeze, variables, writers
from lambda_serving.dtypes import Array
from lambda_serving.servables.graph_defs import reachable

__all__ = ["check_left", "constant_variables", "make_constants", "smallest", "values"]


def constant_variables(graph: Any, ends: Iterable[str], started: set[str]) -> list[Any]:
    """The variables whose value never changes; raises NotCompilable if a signature writes one.

    A variable that is written at startup, such as an asset's path, has a value per installation.
    """
    found = variables(graph)
    if changing := writers(graph, ends, [node.name for node in found]):
        raise NotCompilable(f"it changes its variables as it answers: {', '.join(changing[:3])}")
    for node in found:
        if node.op == "VarHandleOp" and node.name in ends:
            raise NotCompilable(
                f"a signature takes or gives the variable {node.name}, not its value"
            )
    early = reachable(graph, started)
    return [
        node for node in found if node.name not in early or not writers(graph, started, [node.name])
    ]


def values(session: Any, nodes: Iterable[Any]) -> dict[str, Array]:
    """The values of variables by the name of their node."""
    import tensorflow as tf

    tensors = {}
    for node in nodes:
        tensor = session.graph.get_tensor_by_name(f"{node.name}:0")
        if node.op not in OLD_VARIABLES:
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            tensor = tf.raw_ops.ReadVariableOp(resource=tensor, dtype=dtype)
        tensors[node.name] = tensor
    return {name: _array(value) for name, value in session.run(tensors).items()}


def _array(value: Any) -> Array:
    """A tensor's value as an array; TensorFlow gives a single string as `bytes`."""
    return np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)


def smallest(values: Mapping[str, Array], most_bytes: int) -> dict[str, Array]:
    """The smallest arrays that together have at most `most_bytes`."""
    by_size = sorted(values.items(), key=lambda item: (item[1].nbytes, item[0]))
    totals = accumulate(value.nbytes for _, value in by_size)
    return {
        name: value
        for (name, value), total in zip(by_size, totals, strict=True)
        if total <= most_bytes
    }


def make_constants(meta_graph: Any, values: Mapping[str, Array]) -> None:
    """Replaces reads of variables by their values, and drops what is then needless."""
    import tensorflow as tf

    constants = {name: tf.make_tensor_proto(value) for name, value in values.items()}
    freeze(meta_graph.graph_def, constants)
    drop_needless_order(meta_graph.graph_def)
    prune(meta_graph.graph_def, kept(meta_graph))


def check_left(graph: Any, left: Mapping[str, Array], started: Iterable[str]) -> None:
    """Raises NotCompilable for a variable that can be neither a constant nor a mapped file."""
    old = {node.name for node in graph.node if node.op in OLD_VARIABLES}
    early = reachable(graph, started)
    for name, value in left.items():
        if value.dtype == object or not value.nbytes or name in old or name in early:
            raise NotCompilable(
                f"the variable {name} ({value.dtype} of shape {value.shape}) stays a variable,"
                " and a variable of this kind cannot be mapped from a file"
            )
