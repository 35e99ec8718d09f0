"""The plain copy of a graph, kept beside the one that uses oneDNN's kernels.

It answers the inputs that those kernels must not see: tensors of other ranks, without values, or
with other numbers of channels. It answers as the export does, including its errors. Both graphs
share their equal nodes, above all weights and tables.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from lambda_serving.compile.graph_edits import add_constant, prune, set_inputs
from lambda_serving.dtypes import DType
from lambda_serving.servables.compiled_folder import PLAIN
from lambda_serving.servables.graph_defs import by_name, consumers, in_order, node_name

__all__ = ["add_plain", "bare_convolutions", "fuse_as_exported"]

_FUSED_BY_TENSORFLOW = frozenset(
    ("BiasAdd", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
)
_FUSED_DTYPES = frozenset((DType.FLOAT, DType.DOUBLE))


def bare_convolutions(graph: Any) -> set[str]:
    """The convolutions of an export that TensorFlow's optimiser fuses with nothing.

    `graph` is the export's, before constants are folded. These convolutions accept inputs with
    several groups of channels; fused ones refuse them.
    """
    users = consumers(graph)

    def is_fused(node: Any) -> bool:
        match users[node.name]:
            case [user] if user.op == "Squeeze":  # a one-dimensional convolution
                return [each.op for each in users[user.name]] == ["BiasAdd"]
            case [user]:
                return user.op in _FUSED_BY_TENSORFLOW
            case _:
                return False

    return {node.name for node in graph.node if node.op == "Conv2D" and not is_fused(node)}


def fuse_as_exported(graph: Any, bare: Collection[str]) -> None:
    """Fuses a graph's convolutions again that the export fuses: all but `bare`.

    Their offset has become another operation, or has vanished if it was zero, so they add zeros.
    """
    nodes = by_name(graph)
    for node in [each for each in graph.node if each.op == "Conv2D" and each.name not in bare]:
        filters = nodes[node_name(node.input[1])]
        if filters.op == "Const" and (dtype := DType(node.attr["T"].type)) in _FUSED_DTYPES:
            *_, channels = filters.attr["value"].tensor.tensor_shape.dim
            node.input.insert(2, _zeros(graph, nodes, dtype, channels.size))
            node.op = "_FusedConv2D"
            node.attr["num_args"].i = 1
            node.attr["TArgs"].list.type.append(dtype)
            node.attr["fused_ops"].list.s.append(b"BiasAdd")


def _zeros(graph: Any, nodes: dict[str, Any], dtype: DType, count: int) -> str:
    name = f"{PLAIN}{dtype.name}_zeros_{count}"
    if name not in nodes:
        add_constant(graph, name, np.zeros(count, dtype.numpy))
        nodes[name] = graph.node[-1]
    return name


def add_plain(graph: Any, plain: Any, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Adds nodes of `plain`, the graph before fusing, under the prefix `compiled.PLAIN`.

    It adds the nodes `outputs`, unless they are `inputs`, and all nodes before them that the graph
    has changed or removed.
    """
    prune(plain, outputs)
    there = by_name(graph)
    copied = set(outputs).difference(inputs)
    for node in in_order(plain):
        node.device = ""
        if node.name in inputs or _is_shared(node, there.get(node.name), copied):
            continue
        copied.add(node.name)
        made = graph.node.add()
        made.CopyFrom(node)
        made.name = PLAIN + node.name
    for node in graph.node:
        if node.name.startswith(PLAIN):
            set_inputs(node, [_copy_of(each, copied) for each in node.input])


def _is_shared(node: Any, other: Any, copied: Collection[str]) -> bool:
    if other is None or node.name in copied or other.op != node.op:
        return False
    if not node.input and node.op != "Const":
        return True  # handles of variables and tables must be shared
    return bool(node == other) and not any(node_name(each) in copied for each in node.input)


def _copy_of(tensor: str, copied: Collection[str]) -> str:
    if node_name(tensor) not in copied:
        return tensor
    return f"^{PLAIN}{tensor[1:]}" if tensor.startswith("^") else PLAIN + tensor
