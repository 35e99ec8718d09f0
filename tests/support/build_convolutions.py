"""`python build_convolutions.py PATH`: writes a SavedModel whose signatures are small networks.

All take `x` and give `y`; `SIGNATURES` has the shape that each declares for `x`, without its rows.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["SIGNATURES"]

SIGNATURES: dict[str, tuple[int | None, ...]] = {
    "batch_normalised": (8, 8, 3),
    "branches": (8, 8, 3),
    "conv1d": (8, 3),
    "conv2d": (8, 8, 3),
    "conv2d_any_size": (None, None, 3),
    "conv3d": (4, 4, 4, 3),
    "dense": (6,),
    "depthwise": (8, 8, 3),
    "gated": (8, 8, 3),
    "grouped_by_xla": (8, 8, 6),
    "in_a_loop": (8, 8, 3),
    "leaky": (8, 8, 3),
    "offset": (8, 8, 3),
    "pooled": (8, 8, 3),
    "recurrent": (8, 3),
    "separable": (8, 8, 3),
    "swish": (8, 8, 3),
    "transposed": (8, 8, 3),
    "two_convolutions": (8, 8, 3),
}


def main(path: str) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    module = tf.Module()
    networks = _networks(tf, module)
    tf.saved_model.save(
        module,
        path,
        signatures={
            name: tf.function(
                lambda x, network=networks[name]: {"y": network(x)},
                input_signature=[tf.TensorSpec([None, *shape], tf.float32, "x")],
            )
            for name, shape in SIGNATURES.items()
        },
    )


def _networks(tf: Any, module: Any) -> dict[str, Callable[[Any], Any]]:
    random = tf.random.Generator.from_seed(0)
    module.variables_made = []

    def weights(*shape: int) -> Any:
        module.variables_made.append(tf.Variable(random.normal(shape)))
        return module.variables_made[-1]

    first, second, zeros = weights(3, 3, 3, 8), weights(3, 3, 8, 8), tf.Variable(tf.zeros(8))
    module.zeros = zeros
    point, depth, bias = weights(1, 1, 3, 8), weights(3, 3, 3, 1), weights(8)
    line, volume, up = weights(3, 3, 8), weights(2, 2, 2, 3, 8), weights(3, 3, 8, 3)
    across, inner, three = weights(6, 8), weights(8, 8), weights(3)
    narrow, wide, same = weights(1, 1, 8, 2), weights(1, 1, 2, 8), weights(3, 3, 3, 3)
    step = weights(3, 8)
    nn = tf.nn

    def conv(x: Any, filters: Any, padding: str = "SAME") -> Any:
        return nn.conv2d(x, filters, 1, padding)

    def branches(x: Any) -> Any:
        x = nn.relu(nn.bias_add(conv(x, first), bias))
        return nn.relu(nn.bias_add(conv(x, second), bias) + x)

    def normalised(x: Any) -> Any:
        scaled = tf.compat.v1.nn.fused_batch_norm(
            conv(x, first), bias, bias, mean=bias, variance=bias * bias, is_training=False
        )
        return nn.relu6(scaled[0])

    def gated(x: Any) -> Any:
        x = nn.leaky_relu(nn.bias_add(conv(x, first), bias))
        gate = nn.relu(conv(tf.reduce_mean(x, (1, 2), keepdims=True), narrow))
        return x * nn.sigmoid(conv(gate, wide)) + x

    def in_a_loop(x: Any) -> Any:
        return tf.while_loop(
            lambda i, _: i < 2,
            lambda i, y: (i + 1, conv(y, same)),
            (0, x),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape(None)),
        )[1]

    def recurrent(x: Any) -> Any:
        states = tf.zeros((tf.shape(x)[0], 8))
        rows = tf.transpose(x, (1, 0, 2))
        return tf.foldl(lambda state, row: tf.tanh(row @ step + state @ inner), rows, states)

    return {
        "batch_normalised": normalised,
        "branches": branches,
        "conv1d": lambda x: nn.relu(nn.bias_add(nn.conv1d(x, line, 1, "VALID"), bias)),
        "conv2d": lambda x: nn.relu(nn.bias_add(conv(x, first, "VALID"), zeros)) @ inner,
        "conv2d_any_size": lambda x: nn.relu(nn.bias_add(conv(x, first, "VALID"), bias)),
        "conv3d": lambda x: nn.relu(nn.bias_add(nn.conv3d(x, volume, [1] * 5, "SAME"), bias)),
        "dense": lambda x: nn.relu(x @ across + bias) @ inner,
        "depthwise": lambda x: nn.relu6(
            nn.bias_add(nn.depthwise_conv2d(x, depth, [1] * 4, "VALID"), three)
        ),
        "gated": gated,
        "grouped_by_xla": tf.function(lambda x: conv(x, first), jit_compile=True),
        "in_a_loop": in_a_loop,
        "leaky": lambda x: nn.leaky_relu(nn.bias_add(conv(x, first), zeros)),
        "offset": lambda x: nn.relu(conv(x, first) + bias),
        "pooled": lambda x: nn.max_pool2d(
            nn.avg_pool2d(conv(x, first), 2, 2, "VALID"), 2, 2, "VALID"
        ),
        "recurrent": recurrent,
        "separable": lambda x: nn.elu(
            nn.bias_add(nn.separable_conv2d(x, depth, point, [1] * 4, "SAME"), bias)
        ),
        "swish": lambda x: nn.silu(nn.bias_add(conv(x, first), bias)),
        "transposed": lambda x: nn.conv2d_transpose(x, up, (tf.shape(x)[0], 16, 16, 8), 2, "SAME"),
        "two_convolutions": lambda x: conv(nn.relu(conv(x, first, "VALID")), second, "VALID"),
    }


if __name__ == "__main__":
    main(sys.argv[1])
