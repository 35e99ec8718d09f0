"""Which kernels run a graph: oneDNN's, where they answer as TensorFlow's own do, or those."""

from collections.abc import Collection
from typing import Any

from lambda_serving.compile.onednn_fusions import fuse_offsets, fuse_swish, split_clipping
from lambda_serving.compile.onednn_guards import (
    CONVOLUTIONS,
    INPUTS,
    Infer,
    check_values,
    ensure_shapes,
)
from lambda_serving.compile.plain_copy import add_plain, fuse_as_exported
from lambda_serving.compile.rewrites import fuse_sums, pack_filters

__all__ = ["use_eigen", "use_onednn"]


def use_onednn(
    graph: Any,
    plain: Any,
    bare: set[str],
    inputs: Collection[str],
    outputs: Collection[str],
    infer: Infer,
) -> bool:
    """Puts oneDNN's kernels into a fused graph, behind checks, and beside it what it was before.

    Says whether there is anything for them; if not, `use_eigen`. `plain` is the graph before
    anything was fused, `bare` names the convolutions with which nothing is fused in the export;
    `inputs` and `outputs` are nodes of signatures.
    """
    if not all(node.op in INPUTS for node in graph.node if node.name in inputs):
        return False  # what is fed inside of the graph has no shape that could be proven
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
    """Lets convolutions of a fused graph take the channels that they take in the export.

    Those that the export fuses take as many as their filters have, the others groups of them. The
    arguments are those of `use_onednn`. Where the graph fuses what the export does not, it gets
    what it was before beside it.
    """
    fuse_as_exported(graph, bare)
    left = {node.name for node in graph.node}
    if any(node.op == "Conv2D" and node.name in bare - left for node in plain.node):
        fuse_as_exported(plain, bare)
        add_plain(graph, plain, inputs, outputs)
