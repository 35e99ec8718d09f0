"""Chooses a graph's kernels: oneDNN's where they answer as TensorFlow's own, else TensorFlow's."""

from collections.abc import Collection
from typing import Any

from lambda_serving.compile.onednn_fusions import fuse_offsets, fuse_swish, split_clipping
from lambda_serving.compile.onednn_guards import CONVOLUTIONS, check_values, ensure_shapes
from lambda_serving.compile.plain_copy import add_plain, fuse_as_exported
from lambda_serving.compile.rewrites import fuse_sums, pack_filters
from lambda_serving.compile.tensor_shapes import INPUTS, Infer

__all__ = ["use_eigen", "use_onednn"]


def use_onednn(
    graph: Any,
    plain: Any,
    bare: set[str],
    inputs: Collection[str],
    outputs: Collection[str],
    infer: Infer,
) -> bool:
    """Makes a fused graph use oneDNN's kernels, behind checks, and adds the plain graph beside it.

    Returns False if there is nothing for them to run: then call `use_eigen`. `plain` is the graph
    before fusing; `bare` names the convolutions that the export fuses with nothing; `inputs` and
    `outputs` are nodes of signatures.
    """
    if not all(node.op in INPUTS for node in graph.node if node.name in inputs):
        return False  # a tensor fed inside the graph has no provable shape
    kept = [*inputs, *outputs]
    pack_filters(graph)
    split_clipping(graph)
    fuse_offsets(graph, kept)
    if not any(node.op in CONVOLUTIONS for node in graph.node):
        return False
    ensure_shapes(graph, infer)
    proven = infer(graph, declared=False)
    fuse_sums(graph, proven, kept)
    fuse_swish(graph, kept)
    check_values(graph, proven)
    fuse_as_exported(plain, bare)
    add_plain(graph, plain, inputs, outputs)
    return True


def use_eigen(
    graph: Any, plain: Any, bare: set[str], inputs: Collection[str], outputs: Collection[str]
) -> None:
    """Makes the convolutions of a fused graph accept the channels that they accept in the export.

    Convolutions that the export fuses accept exactly the channels of their filters; the others
    also accept groups of them. The arguments are those of `use_onednn`. If the graph fuses more
    than the export does, the plain graph is added beside it.
    """
    fuse_as_exported(graph, bare)
    left = {node.name for node in graph.node}
    if any(node.op == "Conv2D" and node.name in bare - left for node in plain.node):
        fuse_as_exported(plain, bare)
        add_plain(graph, plain, inputs, outputs)
