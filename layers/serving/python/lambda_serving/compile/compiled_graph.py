"""The steps that turn a SavedModel into a compiled graph."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lambda_serving.compile import NotCompilable, constant_values, tables
from lambda_serving.compile.meta_graphs import (
    MAIN_OPS,
    ends_of,
    init_op,
    name_assets,
    start_with,
    started_nodes,
)
from lambda_serving.compile.onednn import use_eigen, use_onednn
from lambda_serving.compile.optimiser import inline, optimise
from lambda_serving.compile.plain_copy import bare_convolutions
from lambda_serving.compile.state import draws_by_seed, remembering
from lambda_serving.compile.tensor_shapes import shapes
from lambda_serving.compile.variables import variables
from lambda_serving.compile.weights import map_constants, map_variables

__all__ = ["MOST_CONSTANT_BYTES", "compiled_graph"]

MOST_CONSTANT_BYTES = 2**30
"""Fits a protobuf message of 2 GiB, with room for what folding adds."""


def compiled_graph(
    source: Path,
    out: Path,
    tags: Sequence[str],
    most_constant_bytes: int = MOST_CONSTANT_BYTES,
    *,
    onednn: bool = True,
    mapped: bool = True,
    stage: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Writes the compiled SavedModel to the folder `out`; returns the fields of `freezer.Frozen`.

    At most `most_constant_bytes` are frozen, the smallest variables first. `onednn` and `mapped`
    are those of a request. Raises NotCompilable. Long, because it is the list of steps in order.
    """
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        stage("restoring variables")
        meta_graph = tf.compat.v1.saved_model.load(session, tags, str(source))
        graph, nodes_before = meta_graph.graph_def, _count(meta_graph.graph_def)
        name_assets(meta_graph)
        ends, started = ends_of(meta_graph), started_nodes(meta_graph)
        stage("inlining functions")
        inline(meta_graph)
        stage("freezing variables")
        frozen = constant_values.constant_variables(graph, ends, started)
        read = tables.tables(graph, ends, started)
        _check_state(session, graph, ends)
        values, held = constant_values.values(session, frozen), tables.contents(session, read)
    if held:
        tables.fill(meta_graph, held, init_op(meta_graph))
        start_with(meta_graph, tables.INITIALISED)
    small = constant_values.smallest(values, most_constant_bytes)
    constant_values.make_constants(meta_graph, small)
    stage("optimising")
    _choose_kernels(meta_graph, onednn=onednn)
    stage("mapping weights")
    left = {node.name: values[node.name] for node in variables(graph) if node.name in values}
    constant_values.check_left(graph, left, started)
    mapped_bytes = map_variables(graph, left, out)
    mapped_bytes += map_constants(graph, out, started) if mapped else 0
    _write(meta_graph, out)
    return {
        "nodes_before": nodes_before,
        "nodes_after": _count(graph),
        "frozen_bytes": sum(values[name].nbytes for name in values.keys() - left.keys()),
        "mapped_bytes": mapped_bytes,
        "left_out": [
            f"{name} is too large for a constant, or not read as a whole, and stays a variable"
            for name in left
        ],
    }


def _choose_kernels(meta_graph: Any, *, onednn: bool) -> None:
    """Optimises the graph, then makes it use oneDNN's kernels, if it may, or Eigen's."""
    graph, bare = meta_graph.graph_def, bare_convolutions(meta_graph.graph_def)
    repeatable = not draws_by_seed(graph, ends_of(meta_graph))  # a failed run may be run again
    plain = optimise(meta_graph, name_offsets=repeatable)
    sides = plain, bare, ends_of(meta_graph, "inputs"), ends_of(meta_graph, "outputs")
    if not (onednn and repeatable and use_onednn(graph, *sides, shapes)):
        use_eigen(graph, *sides)


def _count(graph_def: Any) -> int:
    """The number of nodes, including those inside functions."""
    return len(graph_def.node) + sum(len(each.node_def) for each in graph_def.library.function)


def _check_state(session: Any, graph: Any, ends: Iterable[str]) -> None:
    """Raises NotCompilable if signatures depend on state other than variables and known tables."""
    from tensorflow.python.framework import op_def_registry

    there = {operation.name for operation in session.graph.get_operations()}
    if found := remembering(graph, ends, op_def_registry.get, there):
        told = ", ".join(f"{node.op} ({node.name})" for node in found[:3])
        raise NotCompilable(f"it depends on state that a compiled graph does not carry: {told}")


def _write(meta_graph: Any, out: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    written = model.meta_graphs.add()
    written.meta_info_def.tags.extend(meta_graph.meta_info_def.tags)
    written.meta_info_def.tensorflow_version = tf.__version__
    for name, signature in meta_graph.signature_def.items():
        written.signature_def[name].CopyFrom(signature)
    for key in MAIN_OPS:
        if key in meta_graph.collection_def:
            written.collection_def[key].CopyFrom(meta_graph.collection_def[key])
    written.asset_file_def.extend(meta_graph.asset_file_def)
    written.graph_def.library.CopyFrom(meta_graph.graph_def.library)
    written.graph_def.versions.CopyFrom(meta_graph.graph_def.versions)
    written.graph_def.node.extend(sorted(meta_graph.graph_def.node, key=lambda node: node.name))
    (out / "saved_model.pb").write_bytes(model.SerializeToString(deterministic=True))
