"""Runs TensorFlow's own optimiser over a graph."""

from collections.abc import Sequence
from typing import Any

from lambda_serving.compile import rewrites
from lambda_serving.compile.graph_edits import prune
from lambda_serving.compile.meta_graphs import kept
from lambda_serving.dtypes import DType
from lambda_serving.servables.signature_defs import signatures

__all__ = ["inline", "optimise"]

_DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"
_CLEAN = ("dependency", "common_subgraph_elimination")
_STALE_ATTRIBUTES = ("_class", "_output_shapes")
"""Placement and output shapes, which may refer to nodes that are removed."""


def inline(meta_graph: Any) -> None:
    """Puts the bodies of functions in place of their calls, and drops nodes that nobody needs.

    Attributes that prevent this, or name removed nodes, are dropped first.
    """
    graph = meta_graph.graph_def
    prune(graph, kept(meta_graph))
    for function in graph.library.function:
        function.attr.pop("api_implements", None)  # offers a GPU variant of the layer
    bodies = (node for function in graph.library.function for node in function.node_def)
    for node in (*graph.node, *bodies):
        for attribute in _STALE_ATTRIBUTES:
            node.attr.pop(attribute, None)
    _run(meta_graph, ["function"])


def optimise(meta_graph: Any, *, name_offsets: bool) -> Any:
    """Folds constants, then fuses operations; returns a copy of the graph before fusing."""
    graph = meta_graph.graph_def
    _run(meta_graph, ["function", "constfold", *_CLEAN])
    rewrites.fold_scales(graph)
    if name_offsets:
        rewrites.name_offsets(graph)
    _run(meta_graph, ["function", "constfold", "shape", "arithmetic", "loop", *_CLEAN])
    plain = type(graph)()
    plain.CopyFrom(graph)
    for node in graph.node:
        node.device = _DEVICE  # TensorFlow fuses only nodes placed on a CPU
    _run(meta_graph, ["remap", "constfold", "dependency", "remap"])
    for node in graph.node:
        node.device = ""
    return plain


def _run(meta_graph: Any, passes: Sequence[str]) -> None:
    """Runs passes of TensorFlow's optimiser over the graph, in place, and prunes it."""
    import tensorflow as tf
    from tensorflow.python.grappler import tf_optimizer

    names = kept(meta_graph)
    config = tf.compat.v1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers.extend(passes)
    options.min_graph_nodes = -1  # small graphs as well
    item = type(meta_graph)(graph_def=meta_graph.graph_def)
    definitions = meta_graph.signature_def
    for name in signatures({name: definitions[name].SerializeToString() for name in definitions}):
        item.signature_def[name].CopyFrom(definitions[name])
        for info in item.signature_def[name].inputs.values():  # a fed value is no reference
            info.dtype = DType.of_number(info.dtype)
    for asset in meta_graph.asset_file_def:  # the loader feeds it, as only an input shows
        info = item.signature_def["assets"].inputs[asset.tensor_info.name]
        info.name, info.dtype = asset.tensor_info.name, tf.string.as_datatype_enum
    item.collection_def["train_op"].node_list.value.extend(names)
    meta_graph.graph_def.CopyFrom(tf_optimizer.OptimizeGraph(config, item, verbose=False))
    prune(meta_graph.graph_def, names)
