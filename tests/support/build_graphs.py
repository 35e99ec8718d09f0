"""Builds SavedModels of small random graphs on request: `python build_graphs.py`.

Each line of standard input is one, `{"path": ..., "dtype": ..., "signatures": {name: [step]}}`;
the answer is a line once it is written. Every signature takes `x`, [None, 4] of the dtype, through
its steps to `y`; the signatures share what the steps use. `STEPS` says which steps there are.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["DTYPES", "STEPS"]

DTYPES = ("float32", "float64", "int32", "int64")
STEPS = (
    "add",
    "scale",
    "matmul",
    "gather",
    "large",
    "absolute",
    "loop",
    "branch",
    "lookup",
    "concat",
    "reshape",
    "convolve",
    "depthwise",
    "normalise",
)
_FLOATS_ONLY = ("convolve", "depthwise", "normalise")


def main() -> None:
    """Answers each line of standard input."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for line in sys.stdin:
        asked = json.loads(line)
        _build(asked["path"], asked["dtype"], asked["signatures"])
        sys.stdout.write("done\n")
        sys.stdout.flush()


def _build(path: str, dtype_name: str, signatures: dict[str, list[str]]) -> None:
    import tensorflow as tf

    dtype = tf.dtypes.as_dtype(dtype_name)
    with tempfile.TemporaryDirectory() as folder:
        shared = _shared(dtype, Path(folder) / "numbers.txt")
        steps = _steps(dtype, shared)

        def function(names: list[str]) -> Any:
            def compute(x: Any) -> dict[str, Any]:
                for name in names:
                    if dtype.is_floating or name not in _FLOATS_ONLY:
                        x = steps[name](x)
                return {"y": tf.identity(x)}

            return tf.function(compute, input_signature=[tf.TensorSpec([None, 4], dtype, "x")])

        functions = {name: function(names) for name, names in signatures.items()}
        tf.saved_model.save(shared, path, signatures=functions)


def _shared(dtype: Any, asset: Path) -> Any:
    """Variables, from four values to 64 KiB, and a table that an asset fills."""
    import tensorflow as tf

    module = tf.Module()
    asset.write_text("\n".join(map(str, range(-3, 4))))

    def variable(*shape: int) -> Any:
        count = tf.cast(tf.reduce_prod(shape), tf.int64)
        numbers = tf.reshape(tf.range(count) % 7 - 3, shape)
        return tf.Variable(tf.cast(numbers, dtype))

    module.vector, module.matrix, module.large = variable(4), variable(4, 4), variable(4096, 4)
    module.filters, module.depthwise_filters = variable(2, 2, 1, 3), variable(2, 2, 3, 1)
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            tf.saved_model.Asset(str(asset)),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        default_value=-1,
    )
    return module


def _steps(dtype: Any, shared: Any) -> dict[str, Callable[[Any], Any]]:
    import tensorflow as tf

    def ids(x: Any) -> Any:
        return tf.cast(tf.clip_by_value(x, 0, 3), tf.int32)

    def lookup(x: Any) -> Any:
        words = tf.strings.as_string(tf.cast(x, tf.int64))
        return x + tf.cast(shared.table.lookup(words), dtype)

    def loop(x: Any) -> Any:
        (found,) = tf.while_loop(
            lambda _: True, lambda y: [y + shared.large[5]], [x], maximum_iterations=3
        )
        return found

    def branch(x: Any) -> Any:
        return tf.cond(
            tf.reduce_sum(x) > 0, lambda: x + shared.vector, lambda: x - shared.matrix[1]
        )

    def grid(x: Any) -> Any:
        return tf.nn.conv2d(tf.reshape(x, [-1, 2, 2, 1]), shared.filters, 1, "SAME")

    def scaled(y: Any) -> Any:
        """Like a batch normalisation, partly folded for inference."""
        return y * shared.vector[:3] + shared.matrix[0, :3]

    def flat(y: Any) -> Any:
        return tf.reshape(tf.reduce_mean(tf.nn.relu(y), 3), [-1, 4])

    def depthwise(x: Any) -> Any:
        filters = shared.depthwise_filters
        return flat(scaled(tf.nn.depthwise_conv2d(grid(x), filters, [1, 1, 1, 1], "SAME")))

    steps: dict[str, Callable[[Any], Any]] = {
        "add": lambda x: x + shared.vector,
        "scale": lambda x: x * shared.vector,
        "matmul": lambda x: x @ shared.matrix + shared.vector,
        "gather": lambda x: x + tf.reduce_sum(tf.gather(shared.large, ids(x)), 1),
        "large": lambda x: x + shared.large[17] - tf.reduce_max(shared.large + x[0, 0]),
        "absolute": lambda x: tf.abs(x) - 1,
        "loop": loop,
        "branch": branch,
        "lookup": lookup,
        "concat": lambda x: tf.concat([x, x + 1], 1)[:, 2:6],
        "reshape": lambda x: tf.reshape(
            tf.transpose(tf.reshape(x, [-1, 2, 2]), [0, 2, 1]), [-1, 4]
        ),
        "convolve": lambda x: flat(scaled(grid(x))),
        "depthwise": depthwise,
        "normalise": lambda x: x / (1 + tf.reduce_max(tf.abs(x), 1, keepdims=True)),
    }
    return steps


if __name__ == "__main__":
    main()
