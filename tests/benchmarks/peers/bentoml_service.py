"""BentoML: `WORKERS=N MODEL=FOLDER bentoml serve bentoml_service:Digits`.

A service class that loads the model once, with an API of numpy arrays, as its guide has it.
"""

import os

import bentoml
import numpy as np
import tensorflow as tf

__all__ = ["Digits"]


@bentoml.service(
    workers=int(os.environ["WORKERS"]),
    logging={"access": {"enabled": False}},  # as ours
)
class Digits:
    def __init__(self) -> None:
        self._model = tf.saved_model.load(os.environ["MODEL"])
        self._infer = self._model.signatures["serving_default"]

    @bentoml.api  # type: ignore[untyped-decorator] # BentoML has no types here
    def predict(self, rows: np.ndarray) -> np.ndarray:
        outputs = self._infer(keras_tensor=tf.constant(rows, tf.float32))
        answer: np.ndarray = outputs["output_0"].numpy()
        return answer
