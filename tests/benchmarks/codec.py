"""JSON to a tensor and back, compared with `json` and numpy."""

import json
from collections.abc import Callable
from time import perf_counter

import click
import numpy as np

from benchmarks.rows import Row, Unit
from lambda_serving.api import codec
from lambda_serving.config.server_flags import Settings
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.servable import Signature, TensorSpec

__all__ = ["measure"]

_SIGNATURE = Signature(
    name="serving_default",
    inputs={"x": TensorSpec(DType.FLOAT, (None, 224, 224, 3), "x:0")},
    outputs={"y": TensorSpec(DType.FLOAT, (None, 1000), "y:0")},
    method_name="tensorflow/serving/predict",
    definition=b"",
    defaults={},
)

_LIMITS = codec.Limits(nesting=Settings().rest_api_max_nesting)  # as served
_IMAGE = (1, 224, 224, 3)
_OUTPUT = (100, 1000)


def measure(*, quick: bool) -> list[Row]:
    """An image in, scores out; each run makes one call of each side."""
    runs = 3 if quick else 50
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, _IMAGE).astype(np.float32) / np.float32(255)
    scores = random.random(_OUTPUT, np.float32)
    body = json.dumps({"instances": pixels.tolist()}).encode()
    form, decoded = _decode(body)
    _check(decoded, pixels)
    encoded = json.loads(codec.encode({"y": scores}, form))
    _check(np.array(encoded["predictions"], np.float32), scores)
    return [
        _row(
            "JSON to array, 224x224x3",
            5,
            runs,
            lambda: _decode(body),
            lambda: np.array(json.loads(body)["instances"], np.float32),
        ),
        _row(
            "array to JSON, 100,000 float32",
            8,
            runs,
            lambda: codec.encode({"y": scores}, form),
            lambda: json.dumps({"predictions": scores.tolist()}).encode(),
        ),
    ]


def _decode(body: bytes) -> tuple[codec.Format, Array]:
    form, inputs = codec.decode(codec.parse(body, _LIMITS), _SIGNATURE)
    return form, inputs["x"]


def _check(ours: Array, wanted: Array) -> None:
    """A codec must be correct for its speed to count."""
    if not np.array_equal(ours, wanted):
        raise click.ClickException("Our codec does not keep the numbers")


def _row(
    what: str, wanted: float, runs: int, ours: Callable[[], object], peer: Callable[[], object]
) -> Row:
    pairs = [(_milliseconds(ours), _milliseconds(peer)) for _ in range(1 + runs)]
    return Row.of(what, Unit.MILLISECONDS, pairs[1:], wanted)


def _milliseconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return 1000 * (perf_counter() - start)
