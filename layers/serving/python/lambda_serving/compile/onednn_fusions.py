"""What is fused to oneDNN's convolutions, and what is not, though TensorFlow fused it.

oneDNN clips by machine instructions that give the bound for NaN, where TensorFlow's own kernels
give NaN: `Relu` and `Relu6` behind a convolution become operations of their own again. Offsets
behind a depthwise convolution, which TensorFlow fuses for oneDNN alone, and `x * sigmoid(x)`
become part of the convolution.
Source: tensorflow/core/kernels/mkl/mkl_conv_ops.cc; oneDNN's jit_uni_eltwise_injector.cpp.
"""

from collections.abc import Collection
from typing import Any

from lambda_serving.compile.graphs import consumers, control_inputs, node_name, set_inputs
from lambda_serving.compile.onednn_guards import CONVOLUTIONS

__all__ = ["fuse_offsets", "fuse_swish", "split_clipping"]

_CLIPPING = frozenset((b"Relu", b"Relu6"))
_FUSED = "_MklNativeFusedConv2D"
_DEPTHWISE, _FUSED_DEPTHWISE = (
    "_MklNativeDepthwiseConv2dNative",
    "_MklNativeFusedDepthwiseConv2dNative",
)


def split_clipping(graph: Any) -> None:
    """Takes `Relu` and `Relu6` off oneDNN's convolutions."""
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
    """`BiasAdd` of a constant behind a depthwise convolution becomes part of it.

    `kept` are nodes that must stay.
    """
    nodes, users = {node.name: node for node in graph.node}, consumers(graph)
    gone = set()
    for offset in [node for node in graph.node if node.op == "BiasAdd"]:
        convolution = nodes[node_name(offset.input[0])]
        if (
            convolution.op == _DEPTHWISE
            and len(users[convolution.name]) == 1
            and convolution.name not in kept
            and nodes[node_name(offset.input[1])].op in {"Const", "ReadVariableOp"}
        ):
            name, bias = offset.name, offset.input[1]
            order = [*control_inputs(offset), *control_inputs(convolution)]
            offset.CopyFrom(convolution)
            offset.name, offset.op = name, _FUSED_DEPTHWISE
            set_inputs(offset, [*convolution.input[:2], bias, *order])
            offset.attr.pop("explicit_paddings", None)
            offset.attr["num_args"].i = 1
            offset.attr["fused_ops"].list.s.append(b"BiasAdd")
            gone.add(convolution.name)
    _drop(graph, gone)


def fuse_swish(graph: Any, kept: Collection[str]) -> None:
    """`x * sigmoid(x)` of a convolution becomes part of it, or one operation, `_MklSwish`."""
    nodes, users = {node.name: node for node in graph.node}, consumers(graph)
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
                name = product.name
                product.CopyFrom(convolution)
                product.name = name
                product.attr["fused_ops"].list.s.append(b"_MklSwish")
                gone.add(first)
            else:
                product.op = "_MklSwish"
                set_inputs(product, [first])
            break
    _drop(graph, gone)


def _takes_swish(node: Any) -> bool:
    return node.op == _FUSED and list(node.attr["fused_ops"].list.s) == [b"BiasAdd"]


def _drop(graph: Any, names: Collection[str]) -> None:
    left = [node for node in graph.node if node.name not in names]
    del graph.node[:]
    graph.node.extend(left)
