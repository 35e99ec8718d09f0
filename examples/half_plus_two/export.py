"""Writes the SavedModel `1`: y = x / 2 + 2, the smallest of TensorFlow Serving's own test models.

python examples/half_plus_two/export.py
"""

from pathlib import Path

import tensorflow as tf


def main() -> None:
    module = tf.Module()
    module.half, module.two = tf.Variable(0.5), tf.Variable(2.0)
    module.predict = tf.function(
        lambda x: {"y": module.half * x + module.two},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    folder = Path(__file__).parent / "1"
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})


if __name__ == "__main__":
    main()
