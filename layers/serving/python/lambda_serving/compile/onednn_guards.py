"""Checks before oneDNN's kernels, which trust the shapes of their inputs.

The kernels crash on a tensor of unexpected rank, and give a convolution without values the shape of
its input. Requests may have other shapes than a signature declares. Unless the graph proves, for
inputs of any shape, that a kernel gets what it accepts, an `EnsureShape` is put before it, and a
`Slice` of the smallest size that its window needs. If one of them fails, the graph's plain copy
answers (`plain_copy`), with the export's error.
Source: tensorflow/core/kernels/mkl/mkl_conv_ops.cc and mkl_conv_ops.h.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lambda_serving.compile.graph_edits import add_constant
from lambda_serving.compile.tensor_shapes import Infer, Shape, Shapes
from lambda_serving.dtypes import DType
from lambda_serving.servables.graph_defs import data_inputs, in_order, node_name, op_set, reachable

__all__ = ["CONVOLUTIONS", "check_values", "ensure_shapes"]

CONVOLUTIONS = op_set(
    """
    _MklNativeConv2D _MklNativeDepthwiseConv2dNative _MklNativeFusedConv2D
    _MklNativeFusedDepthwiseConv2dNative
    """
)
_AS_FIRST = op_set(
    """
    BiasAdd Cast Elu EnsureShape ExpandDims FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3
    Identity LeakyRelu Max Mean Pad PadV2 Relu Relu6 Reshape Selu Sigmoid Softplus Squeeze Tanh
    Transpose _MklSwish
    """
)
"""Their first output has values if their first input has any."""
_AS_ALL = frozenset(("Add", "AddV2", "ConcatV2", "Maximum", "Minimum", "Mul", "RealDiv", "Sub"))
"""They have values if all their inputs have any."""
_POOLS = frozenset(("AvgPool", "MaxPool"))


def ensure_shapes(graph: Any, infer: Infer) -> None:
    """Adds checks until the graph proves the input shapes of oneDNN's kernels for any request."""
    while unproven := dict(_unproven(graph, infer(graph, declared=False), infer(graph))):
        for tensor, shape in unproven.items():
            _ensure(graph, tensor, shape)


def _unproven(
    graph: Any, proven: Shapes, declared: Shapes
) -> Iterator[tuple[str, Sequence[int | None]]]:
    """The first tensors on each path that must be checked, and for which shape."""
    wanted = {}
    for node in graph.node:
        if node.op in CONVOLUTIONS:
            shape = _wanted(node, proven, declared)
            if not _is(proven(node.input[0]), shape):
                wanted[node.name] = (node.input[0], shape)
    for tensor, shape in wanted.values():
        if wanted.keys().isdisjoint(reachable(graph, [node_name(tensor)])):
            yield tensor, shape


def _wanted(node: Any, proven: Shapes, declared: Shapes) -> Sequence[int | None]:
    """The required shape of the first input: any number of rows, then the declared sizes."""
    shape = declared(node.input[0])
    _, height, width, depth = shape if shape is not None and len(shape) == 4 else [None] * 4
    filters = proven(node.input[1])
    if filters is None:
        raise ValueError(f"filters of unknown shape: {node.name}")
    return [None, height, width, depth or filters[2]]


def _is(shape: Shape, wanted: Sequence[int | None]) -> bool:
    return (
        shape is not None
        and len(shape) == len(wanted)
        and all(each in {None, size} for each, size in zip(wanted, shape, strict=True))
    )


def _ensure(graph: Any, tensor: str, shape: Sequence[int | None]) -> None:
    """Checks a tensor's shape on its way to oneDNN's convolutions."""
    takers = [node for node in graph.node if node.op in CONVOLUTIONS]
    checked = graph.node.add(name=f"{tensor.replace(':', '_')}/checked", op="EnsureShape")
    checked.input.append(tensor)
    checked.attr["T"].type = DType.FLOAT
    for size in shape:
        checked.attr["shape"].shape.dim.add(size=-1 if size is None else size)
    for node in takers:
        if node.input[0] == tensor:
            node.input[0] = checked.name


def check_values(graph: Any, proven: Shapes) -> None:
    """Adds checks so that a oneDNN convolution without values to compute fails before it runs."""
    with_values: set[str] = set()
    made: dict[tuple[str, int, int], str] = {}
    for node in in_order(graph):
        if node.op in CONVOLUTIONS:
            height, width = _window(node, proven)
            source = node.input[0]
            shape = proven(source) or [None] * 4
            if source not in with_values or (shape[1] or 1) < height or (shape[2] or 1) < width:
                key = (source, height, width)
                if key not in made:
                    made[key] = _slice(graph, source, height, width)
                node.input.append(f"^{made[key]}")
        if _has_values(node, with_values, proven):
            with_values |= {node.name, f"{node.name}:0"}


def _has_values(node: Any, with_values: set[str], proven: Shapes) -> bool:
    inputs = data_inputs(node)
    if node.op in CONVOLUTIONS:
        return True
    if node.op in _AS_FIRST:
        return inputs[0] in with_values
    if node.op in _AS_ALL:
        return with_values.issuperset(inputs)
    if node.op in _POOLS:
        sizes = (proven(node.name) or [None] * 4)[1:3]
        return inputs[0] in with_values and (node.attr["padding"].s == b"SAME" or all(sizes))
    return node.op in {"Const", "ReadVariableOp"} and bool(all(proven(node.name) or [None]))


def _window(node: Any, proven: Shapes) -> tuple[int, int]:
    """The smallest height and width for which the convolution has any output."""
    if node.attr["padding"].s == b"SAME":
        return 1, 1
    filters = proven(node.input[1]) or ()
    dilations = list(node.attr["dilations"].list.i) or [1] * 4
    padding = list(node.attr["explicit_paddings"].list.i) or [0] * 8
    height, width = (
        max(1, ((filters[i] or 1) - 1) * dilations[i + 1] + 1 - sum(padding[2 * i + 2 : 2 * i + 4]))
        for i in (0, 1)
    )
    return height, width


def _slice(graph: Any, tensor: str, height: int, width: int) -> str:
    name = f"{tensor.replace(':', '_')}/values_{height}x{width}"
    node = graph.node.add(name=name, op="Slice")
    begin = add_constant(graph, f"{name}/begin", np.zeros(4, np.int32))
    size = add_constant(graph, f"{name}/size", np.array([1, height, width, 1], np.int32))
    node.input.extend((tensor, begin, size))
    node.attr["T"].type = DType.FLOAT
    node.attr["Index"].type = DType.INT32
    return name
