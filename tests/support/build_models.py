"""Builds the SavedModels that the tests serve: `python build_models.py FOLDER`.

Every model lands in `FOLDER/<name>/<version>`; `_MODELS` at the end lists them all. They are
small: what they compute is written beside them, so that a test can state an answer by hand. The
tests run this program in a process of its own and import no TensorFlow themselves; it is one file,
so that its digest tells whether the models of an earlier run can be used.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read while TensorFlow is imported

import numpy as np
import tensorflow as tf

from lambda_serving import protos
from lambda_serving.dtypes import DType

Build = Callable[[Path], None]
"""Writes one SavedModel into a folder."""

_WARMUP = "assets.extra/tf_serving_warmup_requests"


def main() -> None:
    """Build every model into the folder that the command line names."""
    out = Path(sys.argv[1])
    for name, build in _MODELS.items():
        build(out / name)


def _function(compute: Callable[..., Any], **inputs: Any) -> Any:
    """A function of the graph, with a `TensorSpec` for each input."""
    specs = [tf.TensorSpec.from_spec(spec, name=name) for name, spec in inputs.items()]
    return tf.function(compute, input_signature=specs)


def _any(dtype: Any) -> Any:
    """The spec of a tensor of any shape."""
    return tf.TensorSpec(None, dtype)


def _save(path: Path, signatures: Mapping[str, Any], **tracked: Any) -> None:
    """Save functions with what they use: variables, tables, assets."""
    module = tf.Module()
    for name, value in tracked.items():
        setattr(module, name, value)
    tf.saved_model.save(module, str(path), signatures=dict(signatures))


_VECTOR = tf.TensorSpec([None], tf.float32)
_EXAMPLES = tf.TensorSpec([None], tf.string)  # serialized tf.train.Example


def _half_plus(b: float, path: Path) -> None:
    """`y = x / 2 + b`; as predict, and as regress and classify on the feature x."""
    half, offset, three = tf.Variable(0.5), tf.Variable(b), tf.Variable(3.0)
    features = {
        "x": tf.io.FixedLenFeature([1], tf.float32),
        "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
    }

    def of_feature(output: str, added: Any) -> Any:
        def compute(inputs: Any) -> dict[str, Any]:
            return {output: half * tf.io.parse_example(inputs, features)["x"] + added}

        return _function(compute, inputs=_EXAMPLES)

    column = tf.TensorSpec([None, 1], tf.float32)
    regress = of_feature("outputs", offset)
    signatures = {
        "serving_default": _function(lambda x: {"y": half * x + offset}, x=_VECTOR),
        "regress_x_to_y": regress,
        "regress_x_to_y2": of_feature("outputs", three),
        "regress_x2_to_y3": _function(
            lambda inputs: {"outputs": half * inputs + three}, inputs=column
        ),
        "classify_x_to_y": of_feature("scores", offset),
        "tensorflow/serving/regress": regress,
    }
    _save(path, signatures, numbers=[half, offset, three])


def _identity(dtype: Any, path: Path) -> None:
    """`y = x`, of any shape."""
    _save(path, {"serving_default": _function(lambda x: {"y": tf.identity(x)}, x=_any(dtype))})


def _multi(path: Path) -> None:
    """Three inputs of three dtypes, each given back; the string also as `str_out_bytes`."""

    def compute(int_tensor: Any, str_tensor: Any, float_tensor: Any) -> dict[str, Any]:
        return {
            "int_out": tf.identity(int_tensor),
            "str_out": tf.identity(str_tensor),
            "str_out_bytes": tf.identity(str_tensor),
            "float_out": tf.identity(float_tensor),
        }

    function = _function(
        compute,
        int_tensor=_any(tf.int32),
        str_tensor=_any(tf.string),
        float_tensor=_any(tf.float32),
    )
    _save(path, {"serving_default": function})


def _bytes_out(path: Path) -> None:
    """`image_bytes = s`: an output that JSON shows as base64."""
    function = _function(lambda s: {"image_bytes": tf.identity(s)}, s=_any(tf.string))
    _save(path, {"serving_default": function})


def _shapes(path: Path) -> None:
    """Outputs of one float input that test the row format."""
    computes: dict[str, Callable[[Any], dict[str, Any]]] = {
        "serving_default": lambda x: {"a": tf.identity(x), "b": x + 1.0},
        "scalar": lambda x: {"total": tf.reduce_sum(x)},
        "mismatch": lambda x: {"a": tf.identity(x), "b": tf.concat([x, x], 0)},
        "half_out": lambda x: {"y": tf.cast(x, tf.float16)},
        "empty_batch": lambda x: {"y": x[:0]},
    }
    _save(
        path, {name: _function(compute, x=_any(tf.float32)) for name, compute in computes.items()}
    )


def _dense(path: Path) -> None:
    """`y = x w`, from four columns to two: `[x0 + x2, x1 + x3]`."""
    weights = tf.Variable([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    rows = tf.TensorSpec([None, 4], tf.float32)
    function = _function(lambda x: {"y": tf.matmul(x, weights)}, x=rows)
    _save(path, {"serving_default": function}, weights=weights)


def _no_default(path: Path) -> None:
    """`y = x + 1` under the name `other` alone."""
    _save(path, {"other": _function(lambda x: {"y": x + 1.0}, x=_any(tf.float32))})


def _b64_named(path: Path) -> None:
    """The lengths of strings; the input's name is also JSON's mark of base64 data."""
    function = _function(lambda b64: {"y": tf.strings.length(b64)}, b64=_any(tf.string))
    _save(path, {"serving_default": function})


def _examples(path: Path) -> None:
    """Classifiers and a regressor over examples of age, ratings, names and query."""
    features = {
        "query": tf.io.VarLenFeature(tf.string),
        "age": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        "names": tf.io.VarLenFeature(tf.string),
        "ratings": tf.io.VarLenFeature(tf.float32),
    }

    def parse(inputs: Any) -> Any:
        return tf.io.parse_example(inputs, features)

    def repeat(labels: list[str], inputs: Any) -> Any:
        return tf.tile([labels], [tf.shape(inputs)[0], 1])

    def classify(inputs: Any) -> dict[str, Any]:
        age = tf.cast(parse(inputs)["age"], tf.float32)
        scores = tf.stack([age * 0.1, tf.fill(tf.shape(age), 0.7), tf.fill(tf.shape(age), 0.1)], 1)
        return {"classes": repeat(["car", "bike", "bus"], inputs), "scores": scores}

    def regress(inputs: Any) -> dict[str, Any]:
        parsed = parse(inputs)
        ratings = tf.sparse.reduce_sum(parsed["ratings"], 1)
        return {"outputs": ratings + tf.cast(parsed["age"], tf.float32)}

    computes: dict[str, Callable[[Any], dict[str, Any]]] = {
        "serving_default": classify,
        "classes_only": lambda inputs: {"classes": repeat(["car", "bike"], inputs)},
        "regress": regress,
        "echo_query": lambda inputs: {"classes": tf.sparse.to_dense(parse(inputs)["query"], "")},
    }
    functions = {name: _function(compute, inputs=_EXAMPLES) for name, compute in computes.items()}
    functions["plain_predict"] = _function(lambda x: {"y": x}, x=_VECTOR)
    _save(path, functions)


def _vocabulary(path: Path) -> None:
    """`ids` of words by a table that an asset initialises: a 0, b 1, c 2, any other -1."""
    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder) / "words.txt"
        words.write_text("a\nb\nc\n")
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                tf.saved_model.Asset(str(words)),
                key_dtype=tf.string,
                key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
                value_dtype=tf.int64,
                value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )
        function = _function(lambda words: {"ids": table.lookup(words)}, words=_EXAMPLES)
        _save(path, {"serving_default": function}, table=table)


def _while_loop(path: Path) -> None:
    """`y`: the least power of two that is no less than x, found by a loop; 1 for x below 1."""

    def compute(x: Any) -> dict[str, Any]:
        (y,) = tf.while_loop(
            lambda y: tf.reduce_any(y < x),
            lambda y: [tf.where(y < x, 2 * y, y)],
            [tf.ones_like(x)],
        )
        return {"y": y}

    _save(path, {"serving_default": _function(compute, x=tf.TensorSpec([None], tf.int64))})


def _ones(units: int) -> Any:
    """A dense layer whose weights and biases are all one."""
    return tf.keras.layers.Dense(
        units, activation="relu", kernel_initializer="ones", bias_initializer="ones"
    )


def _keras3_model() -> Any:
    """A perceptron of four inputs, hidden layer of three: `[3 (sum + 1) + 1] * 2` of a row."""
    inputs = tf.keras.Input((4,), name="inputs")
    return tf.keras.Model(inputs, _ones(2)(_ones(3)(inputs)))


def _keras3_saved(path: Path) -> None:
    """Keras 3 through `tf.saved_model.save`: restored as a graph it lacks its variables.

    `call` is its only signature. `tf.saved_model.load` restores it in full.
    """
    model = _keras3_model()
    call = _function(model.call, inputs=tf.TensorSpec([None, 4], tf.float32))
    tf.saved_model.save(model, str(path), signatures={"call": call})


def _keras3_export(path: Path) -> None:
    """The same perceptron through `model.export`, which every loader restores."""
    _keras3_model().export(str(path), verbose=False)


def _keras3_sequential_fixed_batch(path: Path) -> None:
    """Keras 3, trained in batches of five: the export takes five rows of [2, 2], no other number.

    `[sum + 1] * 2` of a row, as training at rate zero learns nothing. Like `keras3_saved` it lacks
    its variables when restored as a graph.
    """
    model = tf.keras.Sequential([tf.keras.layers.Flatten(), _ones(2)])
    model.compile(optimizer=tf.keras.optimizers.SGD(0.0), loss="mse")
    rows = np.ones((10, 2, 2), np.float32)
    model.fit(rows, np.ones((10, 2), np.float32), batch_size=5, verbose=0)
    tf.saved_model.save(model, str(path))


def _legacy_keras(path: Path) -> None:
    """What tf.keras wrote after training: only a graph restore loads it.

    Its optimiser has slot variables, which `tf.saved_model.load` cannot restore ("'_UserObject'
    object has no attribute 'add_slot'"). A TF1 optimiser leaves the same. One step has made every
    weight 0.5: `output_1` is half the row's sum, and that plus one.
    """
    kernel, bias = tf.Variable(tf.ones([4, 2])), tf.Variable([0.0, 1.0])
    optimiser = tf.compat.v1.train.MomentumOptimizer(learning_rate=0.5, momentum=0.5)
    optimiser.minimize(lambda: tf.reduce_sum(kernel), var_list=[kernel])
    rows = tf.TensorSpec([None, 4], tf.float32)
    function = _function(lambda input_1: {"output_1": input_1 @ kernel + bias}, input_1=rows)
    _save(path, {"serving_default": function}, kernel=kernel, bias=bias, optimiser=optimiser)


def _shared_weights(path: Path) -> None:
    """`y = 2 x` and, as `twice`, `4 x`, by one matrix of 64 KiB for two signatures."""
    weights = tf.Variable(2.0 * tf.eye(128))
    rows = tf.TensorSpec([None, 128], tf.float32)
    signatures = {
        "serving_default": _function(lambda x: {"y": x @ weights}, x=rows),
        "twice": _function(lambda x: {"y": 2.0 * (x @ weights)}, x=rows),
    }
    _save(path, signatures, weights=weights)


def _loop_over_variable(path: Path) -> None:
    """`y = x + 3 n`, where a loop of three steps adds a variable of 128 times 128 values n = 2.

    The loop reads the variable by its handle, once a step, so that it cannot become a constant.
    """
    step = tf.Variable(tf.fill([128, 128], 2.0))

    def compute(x: Any) -> dict[str, Any]:
        (y,) = tf.while_loop(lambda _: True, lambda y: [y + step[0, 0]], [x], maximum_iterations=3)
        return {"y": y}

    _save(path, {"serving_default": _function(compute, x=_VECTOR)}, step=step)


def _counter(path: Path) -> None:
    """`y = x + n`, where n counts the calls: a model that changes as it answers."""
    calls = tf.Variable(0.0)

    def compute(x: Any) -> dict[str, Any]:
        return {"y": x + calls.assign_add(1.0)}

    _save(path, {"serving_default": _function(compute, x=_VECTOR)}, calls=calls)


def _dice(path: Path) -> None:
    """`y`: as many throws as x has values, other ones each time; `x` as it came."""

    def compute(x: Any) -> dict[str, Any]:
        return {"y": tf.random.uniform(tf.shape(x), 1, 7), "x": tf.identity(x)}

    _save(path, {"serving_default": _function(compute, x=_VECTOR)})


def _positive(path: Path) -> None:
    """`y = x + 1` for positive x; any other is refused by an assertion nothing depends on."""

    def compute(x: Any) -> dict[str, Any]:
        tf.debugging.assert_positive(x, message="positive numbers only")
        return {"y": x + 1.0}

    _save(path, {"serving_default": _function(compute, x=_VECTOR)})


def _tf1(path: Path) -> None:
    """As TensorFlow 1 wrote it: reference variables, a main op, a table from an asset.

    `serving_default` is `y = x w + b` of [2, 2] ones and zeros; `lookup` as in `vocabulary`.
    """
    v1 = tf.compat.v1
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default():
        words = Path(folder) / "words.txt"
        words.write_text("a\nb\nc\n")
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        weights = v1.get_variable("w", initializer=tf.ones([2, 2]), use_resource=False)
        bias = v1.get_variable("b", initializer=tf.zeros([2]), use_resource=False)
        y = v1.matmul(x, weights) + bias
        words_in = v1.placeholder(tf.string, [None], name="words")
        asset = tf.constant(str(words))
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                asset,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            -1,
        )
        ids = table.lookup(words_in)
        predict = v1.saved_model.predict_signature_def
        with v1.Session() as session:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            builder = v1.saved_model.Builder(str(path))
            builder.add_meta_graph_and_variables(
                session,
                ["serve"],
                {
                    "serving_default": predict({"x": x}, {"y": y}),
                    "lookup": predict({"words": words_in}, {"ids": ids}),
                },
                assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
                main_op=v1.tables_initializer(),
            )
            builder.save()


def _references(path: Path) -> None:
    """Signatures whose outputs are a variable of TensorFlow 1, or what assigns to it."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        counter = v1.get_variable("counter", initializer=0.0, use_resource=False)
        delta = v1.placeholder(tf.float32, [], name="delta")
        session.run(counter.initializer)
        _save_v1(
            session,
            path,
            get_counter=({}, {"output": counter}),
            incr_counter=({}, {"output": v1.assign_add(counter, 1.0)}),
            incr_counter_by=({"delta": delta}, {"output": v1.assign_add(counter, delta)}),
            reset_counter=({}, {"output": v1.assign(counter, 0.0)}),
        )


def _every_dtype(path: Path) -> None:
    """`y = x` for each dtype of arrays, and as `reference` a variable of TensorFlow 1, 2.5."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("variable", initializer=2.5, use_resource=False)
        session.run(variable.initializer)
        signatures: dict[str, Any] = {"reference": ({}, {"y": variable})}
        for dtype in sorted(set(DType) - {DType.INVALID, DType.RESOURCE, DType.VARIANT}):
            x = v1.placeholder(int(dtype), [None], name=f"{dtype.label}_x")
            signatures[dtype.label] = ({"x": x}, {"y": tf.identity(x)})
        _save_v1(session, path, **signatures)


def _save_v1(
    session: Any, path: Path, **signatures: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> None:
    """Save signatures by the tensors that are their inputs and outputs, references as such."""
    saved_model = tf.compat.v1.saved_model

    def infos(tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {name: saved_model.build_tensor_info(each) for name, each in tensors.items()}

    builder = saved_model.Builder(str(path))
    builder.add_meta_graph_and_variables(
        session,
        ["serve"],
        {
            name: saved_model.build_signature_def(
                infos(inputs), infos(outputs), "tensorflow/serving/predict"
            )
            for name, (inputs, outputs) in signatures.items()
        },
    )
    builder.save()


def _composites(path: Path) -> None:
    """`y = 2 x` as `plain`; the words of a text as a RaggedTensor, and a SparseTensor."""
    words = _function(lambda x: {"words": tf.strings.split(x)}, x=tf.TensorSpec([None], tf.string))
    matrix = tf.TensorSpec([None, None], tf.float32)
    signatures = {
        "serving_default": words,
        "sparse": _function(lambda x: {"found": tf.sparse.from_dense(x)}, x=matrix),
        "plain": _function(lambda x: {"y": 2.0 * x}, x=_VECTOR),
    }
    _save(path, signatures)


def _warmed(path: Path) -> None:
    """`half_plus_two` with warm-up requests that succeed: predict, classify, regress."""
    _half_plus(2.0, path)
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[2.0]))
    example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
    prediction_log = protos.message("tensorflow.serving.PredictionLog")
    predict, classify, regress = prediction_log(), prediction_log(), prediction_log()
    predict.predict_log.request.model_spec.name = "warmed"
    _put_floats(predict.predict_log.request.inputs["x"], [2.0])
    for request, signature in (
        (classify.classify_log.request, "classify_x_to_y"),
        (regress.regress_log.request, "regress_x_to_y"),
    ):
        request.model_spec.name, request.model_spec.signature_name = "warmed", signature
        request.input.example_list.examples.add().MergeFromString(example.SerializeToString())
    _write_warmup(path, [predict, classify, regress])


def _warmup_fails(path: Path) -> None:
    """`dense` with a warm-up request of three columns, where it takes four."""
    _dense(path)
    log = protos.message("tensorflow.serving.PredictionLog")()
    log.predict_log.request.model_spec.name = "warmup_fails"
    _put_floats(log.predict_log.request.inputs["x"], [[1.0, 2.0, 3.0]])
    _write_warmup(path, [log])


def _put_floats(tensor: Any, values: list[Any]) -> None:
    """Fill a TensorProto of our descriptors from TensorFlow's own class."""
    tensor.MergeFromString(tf.make_tensor_proto(values, tf.float32).SerializeToString())


def _write_warmup(path: Path, logs: list[Any]) -> None:
    """Lay PredictionLogs where TensorFlow Serving looks for them (saved_model_warmup_util.h)."""
    (path / _WARMUP).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / _WARMUP)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


_DTYPES = {
    "float32": tf.float32,
    "float64": tf.float64,
    "int8": tf.int8,
    "uint8": tf.uint8,
    "int16": tf.int16,
    "uint16": tf.uint16,
    "int32": tf.int32,
    "uint32": tf.uint32,
    "int64": tf.int64,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "string": tf.string,
    "half": tf.float16,
    "bfloat16": tf.bfloat16,
    "complex64": tf.complex64,
}

_MODELS: dict[str, Build] = {
    "half_plus_two/123": partial(_half_plus, 2.0),
    "half_plus_three/123": partial(_half_plus, 3.0),
    "two_versions/1": partial(_half_plus, 2.0),
    "two_versions/2": partial(_half_plus, 3.0),
    **{f"identity_{name}/1": partial(_identity, dtype) for name, dtype in _DTYPES.items()},
    "multi/1": _multi,
    "bytes_out/1": _bytes_out,
    "shapes/1": _shapes,
    "dense/1": _dense,
    "no_default/1": _no_default,
    "b64_named/1": _b64_named,
    "examples/1": _examples,
    "vocabulary/1": _vocabulary,
    "while_loop/1": _while_loop,
    "keras3_saved/1": _keras3_saved,
    "keras3_export/1": _keras3_export,
    "keras3_sequential_fixed_batch/1": _keras3_sequential_fixed_batch,
    "legacy_keras/1": _legacy_keras,
    "shared_weights/1": _shared_weights,
    "loop_over_variable/1": _loop_over_variable,
    "counter/1": _counter,
    "dice/1": _dice,
    "positive/1": _positive,
    "tf1/1": _tf1,
    "references/1": _references,
    "every_dtype/1": _every_dtype,
    "composites/1": _composites,
    "warmed/1": _warmed,
    "warmup_fails/1": _warmup_fails,
}

if __name__ == "__main__":
    main()
