"""Decides which fetches of a graph have a cost that depends only on the shapes of the inputs.

Unknown ops are assumed to cost more. The ops below take as many steps as their inputs and outputs
have elements, or as products of their dimensions; they do not loop, branch, wait or keep state.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Self

from lambda_serving import protos
from lambda_serving.servables.graph_defs import by_name, data_inputs, node_name

__all__ = ["Costs"]

_KEEPING = """
Add AddV2 Cast ConcatV2 ExpandDims Fill GatherV2 Identity Max Maximum Min Minimum Mul OnesLike Pack
Prod Range Reshape Slice Squeeze StridedSlice Sum Unpack ZerosLike
"""
_MOVING = """
BiasAdd BroadcastArgs BroadcastGradientArgs Cast ConcatOffset Const DepthToSpace EnsureShape Gather
Identity IdentityN InvertPermutation NoOp OnesLike Pack ParallelConcat Placeholder
PlaceholderWithDefault PreventGradient Rank ReadVariableOp ResourceGather Reverse ReverseSequence
ReverseV2 Roll Select SelectV2 Shape ShapeN Size Snapshot SpaceToDepth Squeeze
StatelessRandomGetAlg StopGradient Unpack VarHandleOp Variable VariableV2 VarIsInitializedOp
ZerosLike
"""
_ELEMENTWISE = """
Abs Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh BitwiseAnd BitwiseOr BitwiseXor Bucketize
Ceil ClipByValue Conj Cos Cosh Digamma Div DivNoNan Elu Equal Erf Erfc Erfinv Exp Expm1 Floor
FloorDiv FloorMod Greater GreaterEqual Imag Inv Invert IsFinite IsInf IsNan LeakyRelu LeftShift Less
LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr LogSoftmax Maximum Minimum Mod Mul
MulNoNan Neg NotEqual Pow Real RealDiv Reciprocal Relu Relu6 RightShift Rint Round Rsqrt Selu
Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Square SquaredDifference Sub Tan Tanh
TruncateDiv TruncateMod Xdivy Xlog1py Xlogy
"""
_REDUCING = """
_FusedBatchNormEx _FusedConv2D _FusedConv3D _FusedDepthwiseConv2dNative _FusedMatMul
_MklFusedBatchMatMulV2 _MklFusedMish _MklLayerNorm _MklNativeConv2D
_MklNativeDepthwiseConv2dNative _MklNativeFusedConv2D _MklNativeFusedDepthwiseConv2dNative
_MklSwish AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv Conv2D Conv3D Cumprod
Cumsum DepthwiseConv2dNative Einsum FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 InTopK
InTopKV2 L2Loss LRN MatMul MaxPool MaxPool3D
"""
_OVER_STRINGS = """
AsString DecodeRaw HashTable HashTableV2 LookupTableFind LookupTableFindV2 ParseExample
ParseExampleV2 StringFormat StringJoin StringLength StringLower StringStrip StringToHashBucket
StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Substr
"""
"""One step for each byte; the bytes of fed strings are counted."""
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_COMPILED = "_XlaMustCompile"
_SHAPES = {"Const", "Shape", "ShapeN", "Size", "Rank"}
"""Ops whose values depend only on shapes, even if their inputs do not."""
_OF_SHAPES = frozenset(_KEEPING.split())
"""Ops whose values grow with shapes if their inputs do."""
_SIZING = {
    (-1,): "ConcatV2",
    (0,): """
        Concat Conv2DBackpropInput Conv3DBackpropInputV2 Fill RandomStandardNormal RandomUniform
        RandomUniformInt Split StatelessRandomNormalV2 StatelessRandomUniformV2 TruncatedNormal
    """,
    (1,): """
        All Any ArgMax ArgMin BroadcastTo ConjugateTranspose EuclideanNorm ExpandDims Max Mean Min
        MirrorPad OneHot Pad PadV2 Prod Reshape ResizeBicubic ResizeBilinear ResizeNearestNeighbor
        Sum Tile TopKV2 Transpose
    """,
    (2,): "GatherV2 LinSpace",
    (1, 2): "BatchToSpaceND Slice SpaceToBatchND SplitV",
    (0, 1, 2): "Range",
    (1, 2, 3): "StridedSlice",
}
"""Ops by the inputs whose values determine the size or only the shape of their output.

The shape matters too: the product of a row and a column is a number or a matrix.
"""
_SIZED = {op: inputs for inputs, names in _SIZING.items() for op in names.split()}
_STEADY = frozenset(f"{_MOVING} {_ELEMENTWISE} {_REDUCING} {_OVER_STRINGS}".split())


class Costs:
    """The costs of a graph, a `tensorflow.GraphDef`, as far as they are known."""

    def __init__(self, graph: Any) -> None:
        self._graph = by_name(graph)
        self._functions = {each.signature.name: each for each in graph.library.function}
        self._steady: dict[str, bool] = {}

    @classmethod
    def of(cls, meta_graph: bytes) -> Self:
        """The costs of the graph in a serialized `MetaGraphDef`."""
        return cls(protos.message("tensorflow.MetaGraphDef").FromString(meta_graph).graph_def)

    def follow_shapes(self, fetches: Iterable[str]) -> bool:
        """Whether the cost of these tensors depends only on the dimensions of the inputs.

        Neither values nor earlier runs may change it. False where that is not known.
        """
        return self._are_steady(self._graph, map(node_name, fetches))

    def any_compiled(self) -> bool:
        """Whether XLA compiles any part of the graph, needed for a fetch or not."""
        bodies = (node for function in self._functions.values() for node in function.node_def)
        return any(map(_is_compiled, (*self._functions.values(), *self._graph.values(), *bodies)))

    def _are_steady(self, nodes: Mapping[str, Any], names: Iterable[str]) -> bool:
        waiting = list(names)
        seen = set(waiting)
        while waiting:
            node = nodes.get(waiting.pop())
            if node is None:  # an argument of a function
                continue
            if not self._is_steady(nodes, node):
                return False
            for name in map(node_name, node.input):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return True

    def _is_steady(self, nodes: Mapping[str, Any], node: Any) -> bool:
        if node.op in _CALLS or node.op in self._functions:
            called = node.attr["f"].func.name if node.op in _CALLS else node.op
            return not _is_compiled(node) and self._is_steady_function(called)
        if node.op in _STEADY:
            return True
        sizes = _SIZED.get(node.op)
        if sizes is None:
            return False
        inputs = data_inputs(node)
        return all(_follows_shapes(nodes, inputs[i], set()) for i in sizes if i < len(inputs))

    def _is_steady_function(self, name: str) -> bool:
        if name not in self._steady:
            self._steady[name] = False  # while it is examined, also for one that calls itself
            if (function := self._functions.get(name)) and not _is_compiled(function):
                nodes = {node.name: node for node in function.node_def}
                ends = chain(function.ret.values(), function.control_ret.values())
                self._steady[name] = self._are_steady(nodes, map(node_name, ends))
        return self._steady[name]


def _follows_shapes(nodes: Mapping[str, Any], tensor: str, seen: set[str]) -> bool:
    """Whether the values of a tensor depend only on shapes."""
    node = nodes.get(node_name(tensor))
    if node is None:
        return False
    if node.op in _SHAPES or node.name in seen:
        return True
    seen.add(node.name)
    return node.op in _OF_SHAPES and all(
        _follows_shapes(nodes, each, seen) for each in data_inputs(node)
    )


def _is_compiled(of: Any) -> bool:
    """Whether XLA compiles this node or function, again for each shape."""
    return _COMPILED in of.attr and of.attr[_COMPILED].b
