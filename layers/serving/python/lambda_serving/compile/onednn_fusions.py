"""Fusions with oneDNN's convolutions: offsets and swish are added, clipping is taken out.

oneDNN clips with machine instructions that turn NaN into the bound, but TensorFlow's kernels keep
NaN: so a fused `Relu` or `Relu6` becomes a separate operation again. An offset after a depthwise
convolution, which TensorFlow fuses only for oneDNN, and `x * sigmoid(x)` become part of the
convolution.
Source: tensorflow/core/kernels/mkl/mkl_conv_ops.cc; oneDNN's jit_uni_eltwise_injector.cpp.
"""

from collections.abc import Collection
from typing import Any

from lambda_serving.compile.graph_edits import become, drop, set_inputs
from lambda_serving.compile.onednn_guards import CONVOLUTIONS
from lambda_serving.servables.graph_defs import by_name, consumers, control_inputs, node_name

__all__ = ["fuse_offsets", "fuse_swish", "split_clipping"]

_CLIPPING = frozenset((b"Relu", b"Relu6"))
_FUSED = "_MklNativeFusedConv2D"
_DEPTHWISE, _FUSED_DEPTHWISE = (
    "_MklNativeDepthwiseConv2dNative",
    "_MklNativeFusedDepthwiseConv2dNative",
)


def split_clipping(graph: Any) -> None:
    """Separates `Relu` and `Relu6` from oneDNN's convolutions."""
    for node in [each for each in graph.node if each.op == _FUSED]:
        *others, last = node.attr["fused_ops"].list.s
        if last not in _CLIPPING:
            continue
        convolution = graph.node.add()
        convolution.CopyFrom(node)
        convolution.name = f"{node.name}/linear"
        convolution.attr["fused_ops"].list.s[:] = others
        dtype = node.attr["T"].type
        node.attr.clear()
        node.op, node.attr["T"].type = last.decode(), dtype
        set_inputs(node, [convolution.name])


def fuse_offsets(graph: Any, kept: Collection[str]) -> None:
    """Makes `BiasAdd` of a constant part of the depthwise convolution before it.

    The nodes `kept` are not fused away.
    """
    nodes, users = by_name(graph), consumers(graph)
    gone = set()
    for offset in [node for node in graph.node if node.op == "BiasAdd"]:
        convolution = nodes[node_name(offset.input[0])]
        if (
            convolution.op == _DEPTHWISE
            and len(users[convolution.name]) == 1
            and convolution.name not in kept
            and nodes[node_name(offset.input[1])].op in {"Const", "ReadVariableOp"}
        ):
            bias = offset.input[1]
            order = [*control_inputs(offset), *control_inputs(convolution)]
            become(offset, convolution)
            offset.op = _FUSED_DEPTHWISE
            set_inputs(offset, [*convolution.input[:2], bias, *order])
            offset.attr.pop("explicit_paddings", None)
            offset.attr["num_args"].i = 1
            offset.attr["fused_ops"].list.s.append(b"BiasAdd")
            gone.add(convolution.name)
    drop(graph, gone)


def fuse_swish(graph: Any, kept: Collection[str]) -> None:
    """Makes `x * sigmoid(x)` part of the convolution that gives x, or one operation `_MklSwish`."""
    nodes, users = by_name(graph), consumers(graph)
    gone = set()
    for product in [node for node in graph.node if node.op == "Mul" and not control_inputs(node)]:
        for first, second in (product.input, reversed(product.input)):
            convolution, sigmoid = nodes[node_name(first)], nodes[node_name(second)]
            if (
                convolution.op not in CONVOLUTIONS
                or sigmoid.op != "Sigmoid"
                or list(sigmoid.input) != [first]
                or len(users[sigmoid.name]) != 1
                or sigmoid.name in kept
            ):
                continue
            gone.add(sigmoid.name)
            if _takes_swish(convolution) and len(users[first]) == 2 and first not in kept:
                become(product, convolution)
                product.attr["fused_ops"].list.s.append(b"_MklSwish")
                gone.add(first)
            else:
                product.op = "_MklSwish"
                set_inputs(product, [first])
            break
    drop(graph, gone)


def _takes_swish(node: Any) -> bool:
    return node.op == _FUSED and list(node.attr["fused_ops"].list.s) == [b"BiasAdd"]
