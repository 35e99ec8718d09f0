"""The peer: what a competent user would write without us. `uvicorn peer:app` serves it."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from fastapi import FastAPI
from pydantic import BaseModel

__all__ = ["app"]

_MODEL = Path(__file__).parents[2] / "examples/mnist/saved/1"

_model = tf.saved_model.load(str(_MODEL))
_infer = _model.signatures["serving_default"]

app = FastAPI()


class _Request(BaseModel):
    instances: list[Any]


@app.post("/v1/models/MLP:predict")
def _predict(request: _Request) -> dict[str, Any]:
    pixels = tf.constant(np.array(request.instances, dtype=np.float32))
    outputs = _infer(keras_tensor=pixels)
    return {"predictions": outputs["output_0"].numpy().tolist()}
