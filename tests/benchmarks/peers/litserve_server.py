"""LitServe: `python litserve_server.py PORT WORKERS MODEL`.

The four methods of its guide, each worker process with a model of its own.
"""

import sys
from typing import Any

import litserve
import tensorflow as tf


class _Digits(litserve.LitAPI):  # type: ignore[misc] # LitServe has no types here
    def setup(self, _: str) -> None:
        self._model = tf.saved_model.load(sys.argv[3])
        self._infer = self._model.signatures["serving_default"]

    def decode_request(self, request: dict[str, Any]) -> Any:
        return tf.constant(request["rows"], tf.float32)

    def predict(self, rows: Any) -> Any:
        return self._infer(keras_tensor=rows)["output_0"]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": output.numpy().tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(_Digits(), accelerator="cpu", workers_per_device=int(sys.argv[2]))
    server.run(port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
