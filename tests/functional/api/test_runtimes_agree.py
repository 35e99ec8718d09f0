"""Any array to the same model of both runtimes: the same answer, or a refusal for its shape."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import Application, create_app
from lambda_serving.api.rpc.services import Services
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.dtypes import Array, DType
from lambda_serving.model_spec import ModelSpec
from support.asgi import ask
from support.dtype_models import NUMBERS
from support.rpc_client import path_of, predict_request

_MODELS = {
    **{
        f"identity_{name}": {"x": dtype}
        for name, dtype in {**NUMBERS, "string": DType.STRING}.items()
    },
    "half_plus_two": {"x": DType.FLOAT},
    "dense": {"x": DType.FLOAT},
    "keras3_export": {"inputs": DType.FLOAT},
    "keras3_sequential_fixed_batch": {"inputs": DType.FLOAT},
    "multi": {"int_tensor": DType.INT32, "str_tensor": DType.STRING, "float_tensor": DType.FLOAT},
}
"""Models that answer exactly, and their inputs."""
_STRINGS = [b"", b"a", b"\0", b"\xff\xfe", "\u00e9".encode(), b"x" * 300]
_NUMBERS = [0, 1, -1, 0.5, -0.0, 127, 255, 256, 2**31, 3e38, 1e-45, np.inf, -np.inf, np.nan]
_SHAPES = st.lists(st.sampled_from([0, 1, 2, 4, 5]), max_size=4) | st.sampled_from(
    [[0, 4], [3, 4], [5, 2, 2], [7], [2] * 5, [1, 0, 2, 1, 1, 3], [1] * 7, [1] * 12]
)


@st.composite
def _array(draw: st.DrawFn, dtype: DType) -> Array:
    shape = draw(_SHAPES)
    values = draw(
        st.lists(st.sampled_from(_STRINGS if dtype is DType.STRING else _NUMBERS), min_size=1)
    )
    made: Array = np.resize(np.array(values, object), shape)
    if dtype is not DType.STRING:
        with np.errstate(all="ignore"):  # infinity becomes some whole number
            made = made.astype(float).astype(dtype.numpy)
    return made


@st.composite
def _requests(draw: st.DrawFn) -> tuple[str, dict[str, Array]]:
    model = draw(st.sampled_from(sorted(_MODELS)))
    return model, {name: draw(_array(dtype)) for name, dtype in _MODELS[model].items()}


def _fits(manager: Manager, model: str, inputs: dict[str, Array]) -> bool:
    """Whether the arrays have the shapes that LiteRT runs."""
    signature = manager.get(ModelSpec(model)).servable.signature("")
    return all(
        spec.allows(inputs[name].shape) and inputs[name].ndim <= 6
        for name, spec in signature.inputs.items()
    )


@pytest.fixture(scope="module")
def apps(manager: Manager, tflite_manager: Manager) -> tuple[Application, Application]:
    return create_app(manager), create_app(tflite_manager)


@given(_requests())
@settings(max_examples=200)
def test_grpc_answers_alike(
    manager: Manager, tflite_manager: Manager, request_: tuple[str, dict[str, Array]]
) -> None:
    model, inputs = request_
    message = predict_request(model, inputs).SerializeToString()
    with Threads(1, "predict") as threads:
        theirs, ours = (
            asyncio.run(Services(each, Settings(), threads).answer(path_of("Predict"), message))
            for each in (manager, tflite_manager)
        )
    if _fits(tflite_manager, model, inputs):
        assert ours == theirs
    else:
        assert ours.code == 3
        assert "has the shape" in str(ours)


_ODD = st.sampled_from(
    [None, True, 1, -1, 2**31, 2**63, 2**70, 1.5, 1e39, "a", "\0", {"b64": "/w=="}]
)
_JSON = st.recursive(
    _ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.just("x"), inner, max_size=1),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(_MODELS)),
    st.sampled_from(["inputs", "instances"]),
    _JSON,
    st.sampled_from(["", "serving_default", "nope"]),
)
@settings(max_examples=200)
def test_rest_answers_alike(
    apps: tuple[Application, Application], model: str, kind: str, values: Any, signature: str
) -> None:
    content = json.dumps({kind: values, "signature_name": signature})
    theirs, ours = (
        ask(app, "POST", f"/v1/models/{model}:predict", content=content) for app in apps
    )
    if " has the shape [" in ours.text:
        assert ours.status_code == 400
        assert list(ours.json()) == ["error"]
        assert theirs.status_code in {200, 400}
    else:
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
