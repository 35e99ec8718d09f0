"""MLServer: a custom runtime, which `mlserver start FOLDER` finds by the settings there."""

import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri

__all__ = ["Digits"]


class Digits(MLModel):  # type: ignore[misc] # MLServer has no types here
    async def load(self) -> bool:
        self._model = tf.saved_model.load(await get_model_uri(self.settings))
        self._infer = self._model.signatures["serving_default"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        answer = self._infer(keras_tensor=tf.constant(rows))["output_0"].numpy()
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("output_0", answer)]
        )
