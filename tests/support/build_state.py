"""Builds SavedModels that depend on state of every kind: `python build_state.py FOLDER`.

`FOLDER/carried` has a signature for each kind that a compiled graph carries, or that ends with the
call. Each other kind is a model of its own; standard output shows, by kind, why the compiler
refuses its graph, null if it does not.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # read while TensorFlow is imported

import tensorflow as tf

from lambda_serving.compile import NotCompilable
from lambda_serving.compile.compiled_graph import compiled_graph

_FLOATS = tf.TensorSpec([None], tf.float32, "x")
_WORDS = tf.TensorSpec([None], tf.string, "x")
_DTYPES = ("bool", "int8", "uint16", "int64", "half", "bfloat16", "float32", "double", "complex64")
_raw = tf.raw_ops


def _save(path: str, signatures: dict[str, Any], **tracked: Any) -> None:
    module = tf.Module()
    for name, value in tracked.items():
        setattr(module, name, value)
    functions = {
        name: tf.function(compute, input_signature=[spec])
        for name, (compute, spec) in signatures.items()
    }
    tf.saved_model.save(module, path, signatures=functions)


def _table(default: Any, keys: list[str], values: list[Any]) -> Any:
    dtype = tf.constant(default).dtype
    table = tf.lookup.experimental.MutableHashTable(tf.string, dtype, default)
    table.insert(keys, values)
    return table


def _build_carried(path: str) -> None:
    table = _table(tf.constant(-1, tf.int64), ["cat", "dog"], [7, 8])
    vectors = _table([0.0, 0.0], ["cat"], [[1.0, 2.0]])
    scalar, word = tf.Variable(2.0), tf.Variable("!")
    rows = tf.Variable(tf.reshape(tf.range(20000.0), [-1, 2]))
    free = tf.Variable([1.0, 2.0], shape=tf.TensorShape(None))
    by_dtype = {name: tf.Variable(tf.cast(1, name)) for name in _DTYPES}
    by_xla = tf.function(lambda x: x * scalar, jit_compile=True)

    def over_array(x: Any) -> dict[str, Any]:
        array = tf.TensorArray(tf.float32, size=tf.shape(x)[0]).unstack(x * scalar)
        return {"y": tf.map_fn(array.read, tf.range(array.size()), tf.float32)}

    def over_stack(x: Any) -> dict[str, Any]:
        stack = _raw.StackV2(max_size=5, elem_type=tf.float32)
        pushed = _raw.StackPushV2(handle=stack, elem=tf.reduce_sum(x))
        with tf.control_dependencies([pushed]):
            return {"y": x + _raw.StackPopV2(handle=stack, elem_type=tf.float32)}

    def over_data_set(x: Any) -> dict[str, Any]:
        scaled = tf.data.Dataset.from_tensor_slices(x).map(lambda z: z * scalar).batch(2)
        return {"y": scaled.reduce(0.0, lambda a, b: a + tf.reduce_sum(b))[None]}

    def over_iterator(x: Any) -> dict[str, Any]:
        total = tf.zeros([])
        for each in tf.data.Dataset.from_tensor_slices(x):
            total += each * scalar
        return {"y": total[None]}

    def over_variable(variable: Any) -> Callable[[Any], Any]:
        def scale(x: Any) -> Any:
            return x * tf.cast(tf.abs(tf.cast(variable, tf.complex64)), tf.float32)

        return lambda x: {"y": tf.map_fn(scale, x)}

    gathered = tf.function(lambda x: {"y": tf.gather(rows, tf.maximum(table.lookup(x), 0))})
    signatures = {
        "table": (lambda x: {"y": table.lookup(x)}, _WORDS),
        "table_of_vectors": (lambda x: {"y": vectors.lookup(x)}, _WORDS),
        "table_size": (lambda x: {"y": x + tf.cast(table.size(), tf.float32)}, _FLOATS),
        "gathered": (gathered.python_function, _WORDS),
        "word": (lambda x: {"y": tf.strings.join([x, word])}, _WORDS),
        "xla": (lambda x: {"y": by_xla(x)}, _FLOATS),
        "seeded": (lambda x: {"y": x + tf.random.uniform(tf.shape(x), seed=5)}, _FLOATS),
        "any_shape": (
            lambda x: {"y": tf.map_fn(lambda z: z * tf.reduce_sum(free), x)},
            _FLOATS,
        ),
        "array": (over_array, _FLOATS),
        "stack": (over_stack, _FLOATS),
        "data_set": (over_data_set, _FLOATS),
        "iterator": (over_iterator, _FLOATS),
    }
    for name, variable in by_dtype.items():
        signatures[f"loop_{name}"] = (over_variable(variable), _FLOATS)
    tracked = {
        "table": table,
        "vectors": vectors,
        "scalar": scalar,
        "rows": rows,
        "free": free,
        "word": word,
    }
    _save(path, signatures, **tracked, **{f"of_{name}": each for name, each in by_dtype.items()})


def _plus_size(x: Any, size: Any) -> dict[str, Any]:
    return {"y": x + tf.cast(size, tf.float32)}


def _queue(op: str, **attributes: Any) -> Callable[[Any], Any]:
    def compute(x: Any) -> dict[str, Any]:
        queue = getattr(_raw, op)(shared_name="queue", **attributes)
        return _plus_size(x, _raw.QueueSizeV2(handle=queue))

    return compute


def _staged(op: str, **attributes: Any) -> Callable[[Any], Any]:
    return lambda x: _plus_size(x, getattr(_raw, op)(dtypes=[tf.float32], **attributes))


def _read_lines(x: Any) -> dict[str, Any]:
    reader = _raw.TextLineReaderV2(shared_name="reader")
    return _plus_size(x, _raw.ReaderNumRecordsProducedV2(reader_handle=reader))


def _next_of_shared_iterator(x: Any) -> dict[str, Any]:
    kind = {"output_types": [tf.float32], "output_shapes": [[]]}
    iterator = _raw.IteratorV2(shared_name="iterator", container="", **kind)
    return {"y": x + _raw.IteratorGetNext(iterator=iterator, **kind)[0]}


def _trees(x: Any) -> dict[str, Any]:
    handle = _raw.BoostedTreesEnsembleResourceHandleOp(shared_name="trees")
    return _plus_size(x, _raw.IsBoostedTreesEnsembleInitialized(tree_ensemble_handle=handle))


def _sparse_map(x: Any) -> dict[str, Any]:
    handle = _raw.AddSparseToTensorsMap(
        sparse_indices=tf.zeros([1, 1], tf.int64), sparse_values=x[:1], sparse_shape=[1]
    )
    return _plus_size(x, handle)


def _accumulated(x: Any) -> dict[str, Any]:
    handle = _raw.ResourceConditionalAccumulator(dtype=tf.float32, shape=[], shared_name="sum")
    return _plus_size(x, _raw.ResourceAccumulatorNumAccumulated(handle=handle))


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "FIFOQueueV2": _queue("FIFOQueueV2", component_types=[tf.float32]),
    "PaddingFIFOQueueV2": _queue("PaddingFIFOQueueV2", component_types=[tf.float32], shapes=[[]]),
    "PriorityQueueV2": _queue("PriorityQueueV2", component_types=[tf.float32], shapes=[[]]),
    "RandomShuffleQueueV2": _queue("RandomShuffleQueueV2", component_types=[tf.float32]),
    "StageSize": _staged("StageSize", shared_name="stage"),
    "MapSize": _staged("MapSize", shared_name="map"),
    "OrderedMapSize": _staged("OrderedMapSize", shared_name="ordered"),
    "TextLineReaderV2": _read_lines,
    "IteratorV2": _next_of_shared_iterator,
    "BoostedTreesEnsembleResourceHandleOp": _trees,
    "AddSparseToTensorsMap": _sparse_map,
    "ResourceConditionalAccumulator": _accumulated,
}


def _build_functions(folder: Path) -> None:
    for name, compute in _FUNCTIONS.items():
        _save(str(folder / name), {"f": (compute, _FLOATS)})


def _build_written(folder: Path) -> None:
    """State that calls write, or that cannot be read as a whole."""
    table = _table(tf.constant(-1, tf.int64), ["cat"], [7])
    dense = tf.lookup.experimental.DenseHashTable(
        tf.int64, tf.float32, -1.0, empty_key=-1, deleted_key=-2
    )
    dense.insert(tf.constant([5], tf.int64), [0.5])
    generator, counter = tf.random.Generator.from_seed(3), tf.Variable(0.0)

    def fill(x: Any) -> dict[str, Any]:
        table.insert(x, tf.zeros_like(x, tf.int64))
        return {"y": x}

    def count_in_data_set(x: Any) -> dict[str, Any]:
        pairs = tf.data.Dataset.from_tensor_slices((x, x))
        counted = pairs.map(lambda a, b: a + b + counter.assign_add(1.0))
        return {"y": counted.reduce(0.0, lambda a, b: a + b)[None]}

    look_up = (lambda x: {"y": table.lookup(x)}, _WORDS)
    _save(str(folder / "LookupTableInsertV2"), {"f": look_up, "g": (fill, _WORDS)}, table=table)
    look_up = (lambda x: {"y": dense.lookup(tf.cast(x, tf.int64))}, _FLOATS)
    _save(str(folder / "MutableDenseHashTableV2"), {"f": look_up}, table=dense)
    add = (lambda x: {"y": x + generator.uniform(tf.shape(x))}, _FLOATS)
    _save(str(folder / "RngReadAndSkip"), {"f": add}, generator=generator)
    _save(str(folder / "AssignAddVariableOp"), {"f": (count_in_data_set, _FLOATS)}, v=counter)


def _build_old(folder: Path) -> None:
    """TensorFlow 1's state, whose handles are references; one of its tables is `tf1_table`."""
    v1, lookup = tf.compat.v1, tf.lookup.experimental

    def one_shot(x: Any) -> Any:
        numbers = v1.data.make_one_shot_iterator(tf.data.Dataset.range(100))
        return x + tf.cast(numbers.get_next(), tf.float32)

    def barrier(x: Any) -> Any:
        handle = _raw.Barrier(component_types=[tf.float32])
        return x + tf.cast(_raw.BarrierReadySize(handle=handle), tf.float32)

    def accumulator(x: Any) -> Any:
        handle = _raw.ConditionalAccumulator(dtype=tf.float32, shape=[])
        return x + tf.cast(_raw.AccumulatorNumAccumulated(handle=handle), tf.float32)

    def counted(x: Any) -> Any:
        count = v1.get_variable("count", initializer=0, use_resource=False)
        return x + tf.cast(count.count_up_to(100), tf.float32)

    def table(x: Any) -> Any:
        made = lookup.MutableHashTable(tf.int64, tf.float32, -1.0)
        v1.add_to_collection("fill", made.insert(tf.constant([0, 1], tf.int64), [0.5, 1.5]))
        return made.lookup(tf.cast(x, tf.int64))

    functions = {
        "OneShotIterator": one_shot,
        "Barrier": barrier,
        "ConditionalAccumulator": accumulator,
        "CountUpTo": counted,
        "tf1_table": table,
    }
    for name, compute in functions.items():
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], "x")
            y = tf.identity(compute(x))
            v1.get_variable("saved", initializer=1.0)  # a Saver needs one
            session.run([v1.global_variables_initializer(), v1.get_collection("fill")])
            v1.saved_model.simple_save(session, str(folder / name), {"x": x}, {"y": y})


def _reason(source: Path) -> str | None:
    with tempfile.TemporaryDirectory() as out:
        try:
            compiled_graph(source, Path(out), ["serve"])
        except NotCompilable as refused:
            return str(refused)
    return None


def main() -> None:
    """Builds the kinds in the command line; reports on all but `carried` and `tf1_table`."""
    folder = Path(sys.argv[1])
    _build_functions(folder)
    _build_written(folder)
    _build_old(folder)
    others = [path for path in sorted(folder.iterdir()) if path.name != "tf1_table"]
    told, sys.stdout = sys.stdout, sys.stderr  # the compiler tells of its stages
    reasons = {path.name: _reason(path) for path in others}
    _build_carried(str(folder / "carried"))
    told.write(json.dumps(reasons))


if __name__ == "__main__":
    main()
