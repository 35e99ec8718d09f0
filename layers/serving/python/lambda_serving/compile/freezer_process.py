"""Compiles graphs, each in a fork of this process: `python -m` this module.

Requests come on standard input, one line of JSON each: `{"source": ..., "out": ..., "tags": [...],
"op_libraries": [...], "onednn": ..., "mapped": ...}`. `source` is a SavedModel that the graph
restore can load, `op_libraries` are paths of custom ops. The graph uses oneDNN's kernels if
`onednn`, and keeps large constants in files if `mapped`. The fork writes `saved_model.pb` and
`weights/` to the folder `out`. Lines of JSON on standard output tell the current stage
(`{"stage": ...}`), the result (`{"result": ...}`) or why the model cannot be compiled
(`{"refused": ...}`), and last the exit code of the fork (`{"ended": ...}`).
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from lambda_serving.compile import rewrites, tables
from lambda_serving.compile.graphs import (
    NotCompilable,
    drop_needless_order,
    node_name,
    prune,
    reachable,
    tensor_names,
)
from lambda_serving.compile.onednn import use_eigen, use_onednn
from lambda_serving.compile.onednn_guards import Shape, Shapes, forget_shapes
from lambda_serving.compile.plain_copy import bare_convolutions
from lambda_serving.compile.state import draws_by_seed, remembering
from lambda_serving.compile.variables import OLD_VARIABLES, freeze, variables, writers
from lambda_serving.compile.weights import map_constants, map_variables
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.signature_defs import signatures

__all__ = ["MOST_CONSTANT_BYTES", "NotCompilable", "compiled_graph"]

MOST_CONSTANT_BYTES = 2**30
"""Fits a protobuf message of 2 GiB, with room for what folding adds."""
_INIT_OP = "__saved_model_init_op"
_ASSETS = "saved_model_assets"
_MAIN_OPS = ("saved_model_main_op", "legacy_init_op")
_DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_CLEAN = ("dependency", "common_subgraph_elimination")
_STALE_ATTRIBUTES = ("_class", "_output_shapes")
"""Placement and output shapes, which may refer to nodes that are removed."""


def compiled_graph(
    source: Path,
    out: Path,
    tags: Sequence[str],
    most_constant_bytes: int = MOST_CONSTANT_BYTES,
    *,
    onednn: bool = True,
    mapped: bool = True,
) -> dict[str, Any]:
    """Writes the compiled SavedModel to the folder `out`; returns the fields of `freezer.Frozen`.

    At most `most_constant_bytes` are frozen, the smallest variables first. `onednn` and `mapped`
    are those of a request. Raises NotCompilable. Long, because it is the list of steps in order.
    """
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        _say("restoring variables")
        meta_graph = tf.compat.v1.saved_model.load(session, tags, str(source))
        graph, nodes_before = meta_graph.graph_def, _count(meta_graph.graph_def)
        _name_assets(meta_graph)
        ends, started = _ends(meta_graph), _started(meta_graph)
        _say("inlining functions")
        _prepare(graph, [*ends, *started])
        _optimise(meta_graph, ["function"])
        _say("freezing variables")
        constant_variables = _constant_variables(graph, ends, started)
        read = tables.tables(graph, ends, started)
        _check_state(session, graph, ends)
        values, held = _values(session, constant_variables), tables.contents(session, read)
    if held:
        tables.fill(meta_graph, held, _init_op(meta_graph))
        _start_with(meta_graph, tables.INITIALISED)
    _freeze(meta_graph, _small(values, most_constant_bytes))
    _say("optimising")
    _choose_kernels(meta_graph, onednn=onednn)
    _say("mapping weights")
    left = {node.name: values[node.name] for node in variables(graph) if node.name in values}
    _check_left(graph, left, started)
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
    repeatable = not draws_by_seed(graph, _ends(meta_graph))  # a failed run may be run again
    plain = _optimise_all(meta_graph, name_offsets=repeatable)
    sides = plain, bare, _ends_of(meta_graph, "inputs"), _ends_of(meta_graph, "outputs")
    if not (onednn and repeatable and use_onednn(graph, *sides, _shapes)):
        use_eigen(graph, *sides)


def _say(stage: str) -> None:
    _print({"stage": stage})


def _print(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _count(graph_def: Any) -> int:
    """The number of nodes, including those inside functions."""
    return len(graph_def.node) + sum(len(each.node_def) for each in graph_def.library.function)


def _name_assets(meta_graph: Any) -> None:
    """Lists assets where TensorFlow 2 does; TensorFlow 1 keeps them in a collection."""
    if not meta_graph.asset_file_def and _ASSETS in meta_graph.collection_def:
        for each in meta_graph.collection_def[_ASSETS].any_list.value:
            each.Unpack(meta_graph.asset_file_def.add())


def _ends(meta_graph: Any) -> set[str]:
    """The input and output nodes of signatures."""
    return _ends_of(meta_graph, "inputs") | _ends_of(meta_graph, "outputs")


def _ends_of(meta_graph: Any, side: str) -> set[str]:
    """The nodes of the `inputs` or of the `outputs` of all signatures."""
    return {
        node_name(tensor)
        for name, signature in meta_graph.signature_def.items()
        if name != _INIT_OP
        for info in getattr(signature, side).values()
        for tensor in tensor_names(info)
    }


def _started(meta_graph: Any) -> set[str]:
    """Nodes that a loader runs or feeds first, to fill tables and to name assets."""
    found = {node_name(asset.tensor_info.name) for asset in meta_graph.asset_file_def}
    if _INIT_OP in meta_graph.signature_def:
        infos = meta_graph.signature_def[_INIT_OP].outputs.values()
        found.update(node_name(info.name) for info in infos)
    for key in _MAIN_OPS:
        if key in meta_graph.collection_def:
            found.update(map(node_name, meta_graph.collection_def[key].node_list.value))
    return found


def _init_op(meta_graph: Any) -> set[str]:
    """Nodes that a loader runs first."""
    return _started(meta_graph) - {
        node_name(asset.tensor_info.name) for asset in meta_graph.asset_file_def
    }


def _start_with(meta_graph: Any, name: str) -> None:
    """Makes a node the init op in TensorFlow 2's way, which takes precedence over the older one."""
    meta_graph.signature_def[_INIT_OP].outputs[_INIT_OP].name = name
    for key in _MAIN_OPS:
        meta_graph.collection_def.pop(key, None)


def _kept(meta_graph: Any) -> list[str]:
    """Nodes that must keep their names."""
    return sorted(_ends(meta_graph) | _started(meta_graph))


def _prepare(graph: Any, kept: Iterable[str]) -> None:
    """Prunes the graph, and removes attributes that prevent inlining or name removed nodes."""
    prune(graph, kept)
    for function in graph.library.function:
        function.attr.pop("api_implements", None)  # offers a GPU variant of the layer
    bodies = (node for function in graph.library.function for node in function.node_def)
    for node in (*graph.node, *bodies):
        for attribute in _STALE_ATTRIBUTES:
            node.attr.pop(attribute, None)


def _optimise(meta_graph: Any, passes: Sequence[str]) -> None:
    """Runs passes of TensorFlow's optimiser over the graph, in place, and prunes it."""
    import tensorflow as tf
    from tensorflow.python.grappler import tf_optimizer

    kept = _kept(meta_graph)
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
    item.collection_def["train_op"].node_list.value.extend(kept)
    meta_graph.graph_def.CopyFrom(tf_optimizer.OptimizeGraph(config, item, verbose=False))
    prune(meta_graph.graph_def, kept)


def _constant_variables(graph: Any, ends: Iterable[str], started: set[str]) -> list[Any]:
    """The variables whose value never changes; raises NotCompilable if a signature writes one.

    A variable that is written at startup, such as an asset's path, has a value per installation.
    """
    found = variables(graph)
    if changing := writers(graph, ends, [node.name for node in found]):
        raise NotCompilable(f"it changes its variables as it answers: {', '.join(changing[:3])}")
    for node in found:
        if node.op == "VarHandleOp" and node.name in ends:
            raise NotCompilable(
                f"a signature takes or gives the variable {node.name}, not its value"
            )
    early = reachable(graph, started)
    return [
        node for node in found if node.name not in early or not writers(graph, started, [node.name])
    ]


def _check_state(session: Any, graph: Any, ends: Iterable[str]) -> None:
    """Raises NotCompilable if signatures depend on state other than variables and known tables."""
    from tensorflow.python.framework import op_def_registry

    there = {operation.name for operation in session.graph.get_operations()}
    if found := remembering(graph, ends, op_def_registry.get, there):
        told = ", ".join(f"{node.op} ({node.name})" for node in found[:3])
        raise NotCompilable(f"it depends on state that a compiled graph does not carry: {told}")


def _values(session: Any, nodes: Iterable[Any]) -> dict[str, Array]:
    """The values of variables by the name of their node."""
    import tensorflow as tf

    tensors = {}
    for node in nodes:
        tensor = session.graph.get_tensor_by_name(f"{node.name}:0")
        if node.op not in OLD_VARIABLES:
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            tensor = tf.raw_ops.ReadVariableOp(resource=tensor, dtype=dtype)
        tensors[node.name] = tensor
    return {name: _array(value) for name, value in session.run(tensors).items()}


def _array(value: Any) -> Array:
    """A tensor's value as an array; TensorFlow gives a single string as `bytes`."""
    return np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)


def _small(values: Mapping[str, Array], most_bytes: int) -> dict[str, Array]:
    """The smallest arrays that together have at most `most_bytes`."""
    by_size = sorted(values.items(), key=lambda item: (item[1].nbytes, item[0]))
    totals = accumulate(value.nbytes for _, value in by_size)
    return {
        name: value
        for (name, value), total in zip(by_size, totals, strict=True)
        if total <= most_bytes
    }


def _freeze(meta_graph: Any, values: Mapping[str, Array]) -> None:
    import tensorflow as tf

    constants = {name: tf.make_tensor_proto(value) for name, value in values.items()}
    freeze(meta_graph.graph_def, constants)
    drop_needless_order(meta_graph.graph_def)
    prune(meta_graph.graph_def, _kept(meta_graph))


def _optimise_all(meta_graph: Any, *, name_offsets: bool) -> Any:
    """Folds constants, then fuses operations; returns a copy of the graph before fusing."""
    graph = meta_graph.graph_def
    _optimise(meta_graph, ["function", "constfold", *_CLEAN])
    rewrites.fold_scales(graph)
    if name_offsets:
        rewrites.name_offsets(graph)
    _optimise(meta_graph, ["function", "constfold", "shape", "arithmetic", "loop", *_CLEAN])
    plain = type(graph)()
    plain.CopyFrom(graph)
    for node in graph.node:
        node.device = _DEVICE  # TensorFlow fuses only nodes placed on a CPU
    _optimise(meta_graph, ["remap", "constfold", "dependency", "remap"])
    for node in graph.node:
        node.device = ""
    return plain


def _shapes(graph: Any, *, declared: bool = True) -> Shapes:
    import tensorflow as tf

    copy = type(graph)()
    copy.CopyFrom(graph)
    if not declared:
        forget_shapes(copy)
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(copy, name="")

    def shape(tensor: str) -> Shape:
        name = tensor if ":" in tensor else f"{tensor}:0"
        found = imported.get_tensor_by_name(name).shape
        return None if found.rank is None else found.as_list()

    return shape


def _check_left(graph: Any, left: Mapping[str, Array], started: Iterable[str]) -> None:
    """Raises NotCompilable for a variable that can be neither a constant nor a mapped file."""
    old = {node.name for node in graph.node if node.op in OLD_VARIABLES}
    early = reachable(graph, started)
    for name, value in left.items():
        if value.dtype == object or not value.nbytes or name in old or name in early:
            raise NotCompilable(
                f"the variable {name} ({value.dtype} of shape {value.shape}) stays a variable,"
                " and of its kind none can be mapped"
            )


def _write(meta_graph: Any, out: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    written = model.meta_graphs.add()
    written.meta_info_def.tags.extend(meta_graph.meta_info_def.tags)
    written.meta_info_def.tensorflow_version = tf.__version__
    for name, signature in meta_graph.signature_def.items():
        written.signature_def[name].CopyFrom(signature)
    for key in _MAIN_OPS:
        if key in meta_graph.collection_def:
            written.collection_def[key].CopyFrom(meta_graph.collection_def[key])
    written.asset_file_def.extend(meta_graph.asset_file_def)
    written.graph_def.library.CopyFrom(meta_graph.graph_def.library)
    written.graph_def.versions.CopyFrom(meta_graph.graph_def.versions)
    written.graph_def.node.extend(sorted(meta_graph.graph_def.node, key=lambda node: node.name))
    (out / "saved_model.pb").write_bytes(model.SerializeToString(deterministic=True))


def _main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # the same graph on every machine
    sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), 1)  # whatever libraries print goes to stderr
    for line in sys.stdin:
        _say("starting TensorFlow")
        import tensorflow  # noqa: F401, ICN001 - imported once for all forks

        _print({"ended": _in_a_fork(partial(_answer, **json.loads(line)))})


def _in_a_fork(run: Callable[[], None]) -> int:
    """Calls `run` in a fork of this process, in which no graph was loaded; returns its exit code.

    On Linux, the fork dies with this process.
    """
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    code = 1
    try:
        run()
        code = 0
    except BaseException:  # noqa: BLE001 - the fork ends here
        traceback.print_exc()
    finally:
        os._exit(code)


def _answer(
    source: str, out: str, tags: list[str], op_libraries: list[str], *, onednn: bool, mapped: bool
) -> None:
    import tensorflow as tf

    for library in op_libraries:
        tf.load_op_library(library)
    try:
        result = compiled_graph(Path(source), Path(out), tags, onednn=onednn, mapped=mapped)
    except NotCompilable as refused:
        _print({"refused": str(refused)})
    except OSError as error:
        _print({"cannot write": [error.errno, error.strerror]})
    else:
        _print({"result": result})


if __name__ == "__main__":
    _main()
