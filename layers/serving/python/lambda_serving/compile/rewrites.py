"""Fusions that TensorFlow's own optimisers miss, before and after they run.

Before: a batch normalisation after a convolution has become a scale and an offset per channel. The
optimisers fold a scale only into the filters of `Conv2D` (`fold_scales` does depthwise ones), and
recognise an offset only as `BiasAdd` (`name_offsets` renames it).

After: where branches of a network are summed, the optimisers cannot see that both have one shape,
because the number of rows is unknown. `fuse_sums` only needs both to have their rows from the same
tensor, and makes the sum part of the convolution.

`pack_filters`: oneDNN packs constant filters once, and others in every call. Its layout pass
decides by the node that holds the filters, but mapped ones are read from a variable. So the nodes
get here the names that the pass would give them.
Source: tensorflow/core/common_runtime/mkl_layout_pass.cc, CopyAttrsConvCheckConstFilter.
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from lambda_serving.compile.graph_edits import add_constant, become, drop, set_inputs
from lambda_serving.compile.onednn_guards import CONVOLUTIONS
from lambda_serving.compile.tensor_shapes import Shape, Shapes
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.graph_defs import (
    by_name,
    constant,
    consumers,
    control_inputs,
    data_inputs,
    node_name,
)

__all__ = ["fold_scales", "fuse_sums", "name_offsets", "pack_filters"]

_DEPTHWISE = "DepthwiseConv2dNative"
_CONVOLUTIONS = frozenset(("Conv2D", _DEPTHWISE))
_FLOATS = frozenset((DType.FLOAT, DType.DOUBLE, DType.HALF, DType.BFLOAT16))
_KEEP_ROWS = frozenset(
    (*CONVOLUTIONS, "_MklSwish", "AvgPool", "EnsureShape", "LeakyRelu", "MaxPool", "Relu", "Relu6")
)
_PACKING = {
    "Conv2D": "_MklNativeConv2D",
    "DepthwiseConv2dNative": "_MklNativeDepthwiseConv2dNative",
    "_FusedConv2D": "_MklNativeFusedConv2D",
}


def fold_scales(graph: Any) -> None:
    """`DepthwiseConv2dNative * scale` becomes the convolution with scaled filters."""
    nodes, users = by_name(graph), consumers(graph)
    for product in [node for node in graph.node if node.op == "Mul"]:
        for convolution, scale in _with_constants(product, nodes):
            if convolution.op != _DEPTHWISE or len(users[convolution.name]) != 1:
                continue
            filters = nodes[node_name(convolution.input[1])]
            factors = _by_channel(convolution, filters, scale)
            if factors is None:
                continue
            before = constant(filters)
            scaled = before * factors.reshape(before.shape[2:])
            filters_name = add_constant(graph, f"{product.name}/scaled_filters", scaled)
            order = [*control_inputs(product), *control_inputs(convolution)]
            become(product, convolution)
            set_inputs(product, [convolution.input[0], filters_name, *order])
            break


def name_offsets(graph: Any) -> None:
    """`convolution + offset` and `matrix product + offset` become `BiasAdd`."""
    nodes = by_name(graph)
    for total in [node for node in graph.node if node.op in {"Add", "AddV2"}]:
        for producer, offset in _with_constants(total, nodes):
            if producer.op not in _CONVOLUTIONS | {"MatMul"}:
                continue
            values = _by_channel(producer, nodes[node_name(producer.input[1])], offset)
            if values is None:
                continue
            bias = add_constant(graph, f"{total.name}/bias", values)
            set_inputs(total, [producer.name, bias, *control_inputs(total)])
            total.op = "BiasAdd"
            total.attr["data_format"].s = b"NHWC"
            break


def pack_filters(graph: Any) -> None:
    """Makes convolutions pack their filters once, if filters and fused operands never change.

    The operands count because oneDNN does not check the length of an offset.
    """
    fixed = {
        node.name
        for node in graph.node
        if node.op in {"Const", "ReadVariableOp"} and not control_inputs(node)
    }
    for node in graph.node:
        if (
            node.op in _PACKING
            and node.attr["T"].type == DType.FLOAT
            and node.attr["data_format"].s in {b"", b"NHWC"}
            and all(node_name(each) in fixed for each in data_inputs(node)[1:])
        ):
            node.op = _PACKING[node.op]
            node.attr["_kernel"].s = b"MklNameChangeOp"
            node.attr["is_filter_const"].b = True


def fuse_sums(graph: Any, shapes: Shapes, kept: Collection[str]) -> None:
    """Makes a packed convolution and the sum after it one node, if both operands have one shape.

    A shortcut around a convolution, for example,

        conv = _MklNativeFusedConv2D(x, filters, bias)           fused_ops: BiasAdd
        sum  = AddV2(conv, x)

    becomes, under the name that later nodes use,

        sum  = _MklNativeFusedConv2D(x, filters, bias, x)        fused_ops: BiasAdd, Add

    `shapes` gives the shapes that the graph proves. The nodes `kept` are not fused away.
    """
    nodes, users = by_name(graph), consumers(graph)
    fused: set[str] = set()
    for total in [node for node in graph.node if node.op == "AddV2" and not control_inputs(node)]:
        for operand, other in (total.input, reversed(total.input)):
            convolution = nodes[node_name(operand)]
            if (
                _takes_a_sum(convolution)
                and len(users[convolution.name]) == 1
                and convolution.name not in kept
                and _same_shape(shapes(operand), shapes(other))
                and _same_rows(nodes, operand, other)
            ):
                fused.add(convolution.name)
                _become_sum(total, convolution, other)
                break
    drop(graph, fused)


def _takes_a_sum(node: Any) -> bool:
    return (
        node.op == "_MklNativeFusedConv2D"
        and list(node.attr["fused_ops"].list.s) == [b"BiasAdd"]
        and not control_inputs(node)
    )


def _become_sum(total: Any, convolution: Any, other: str) -> None:
    become(total, convolution)
    total.input.append(other)
    total.attr["num_args"].i = 2
    total.attr["TArgs"].list.type.append(DType.FLOAT)
    total.attr["fused_ops"].list.s.append(b"Add")


def _same_shape(one: Shape, other: Shape) -> bool:
    """Whether all but the numbers of rows are known and equal."""
    if one is None or other is None or len(one) != 4 or None in one[1:]:
        return False
    return list(one[1:]) == list(other[1:])


def _same_rows(nodes: dict[str, Any], one: str, other: str) -> bool:
    """Whether both have the rows of some tensor that both are computed from."""
    before = set(_with_rows_of(nodes, one))
    return any(tensor in before for tensor in _with_rows_of(nodes, other))


def _with_rows_of(nodes: dict[str, Any], tensor: str) -> Iterator[str]:
    """The tensor, then the earlier tensors that have the same rows."""
    yield tensor
    while (node := nodes[node_name(tensor)]).op in _KEEP_ROWS:
        tensor = node.input[0]
        yield tensor


def _with_constants(node: Any, nodes: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The other operand and the constant, for each operand that is a constant."""
    first, second = (nodes[node_name(each)] for each in data_inputs(node))
    if second.op == "Const":
        yield first, second
    if first.op == "Const":
        yield second, first


def _by_channel(producer: Any, filters: Any, node: Any) -> Array | None:
    """The constant's values, if it has exactly one per channel of the producer's output."""
    if (
        filters.op != "Const"
        or producer.attr["T"].type not in _FLOATS
        or producer.attr["data_format"].s not in {b"", b"NHWC"}
    ):
        return None
    shape = [dim.size for dim in filters.attr["value"].tensor.tensor_shape.dim]
    rank = 2 if producer.op == "MatMul" else 4
    match producer.op:
        case "MatMul":
            channels = shape[0] if producer.attr["transpose_b"].b else shape[1]
        case "Conv2D":
            channels = shape[3]
        case _:
            channels = shape[2] * shape[3]
    values = constant(node)
    if values.size != channels or not 0 < values.ndim <= rank or values.shape[-1] != channels:
        return None
    return np.ascontiguousarray(values.reshape(-1))
