"""Signatures over more than plain tensors of everyday dtypes, over REST and gRPC."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.api.rest import create_app
from lambda_serving.api.rpc.grpc_server import serving
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.protos.tensor_proto import to_array
from lambda_serving.servables import saved_model
from support.asgi import ask
from support.graphs import add
from support.rpc_client import call, example_request, predict_request

_DTYPES = sorted(set(DType) - {DType.INVALID, DType.RESOURCE, DType.VARIANT})
_IN_JSON = {
    *(DType.FLOAT, DType.DOUBLE, DType.HALF, DType.BFLOAT16, DType.STRING, DType.BOOL),
    *(DType.INT8, DType.INT16, DType.INT32, DType.INT64),
    *(DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64),
}
_RAGGED = (
    "Signature 'serving_default' cannot be called: its output 'words' is a RaggedTensor. Export"
    " words.values and words.row_splits (or words.flat_values and each of"
    " words.nested_row_splits) as outputs of their own"
)

_SPARSE = (
    "Signature 'sparse' cannot be called: its output 'found' is a SparseTensor. Export"
    " found.indices, found.values and found.dense_shape as outputs of their own"
)


@pytest.fixture(scope="module", params=[False, True], ids=["values", "content"])
def channel(
    manager: Manager, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[grpc.Channel]:
    settings = Settings(
        port=0,
        grpc_socket_path=str(tmp_path_factory.mktemp("rpc") / "socket"),
        enable_serialization_as_tensor_content=request.param,
    )
    with (
        serving(manager, settings),
        grpc.insecure_channel(f"unix:{settings.grpc_socket_path}") as channel,
    ):
        yield channel


def _values(dtype: DType) -> Array:
    """Ones and zeros, which every dtype has."""
    if dtype is DType.STRING:
        return np.array([b"a", b"", b"\xff"], object)
    return np.array([0, 1, 1]).astype(dtype.numpy)


def _rest(manager: Manager, model: str, body: Any) -> tuple[int, Any]:
    answer = ask(
        create_app(manager), "POST", f"/v1/models/{model}:predict", content=json.dumps(body)
    )
    return answer.status_code, answer.json()


@pytest.mark.parametrize("dtype", _DTYPES)
def test_every_dtype_comes_back_over_grpc(channel: grpc.Channel, dtype: DType) -> None:
    x = _values(dtype)
    request = predict_request("every_dtype", {"x": x}, signatureName=dtype.label)
    y = call(channel, "Predict", request).outputs["y"]
    assert (y.dtype, to_array(y).dtype, to_array(y).tolist()) == (dtype, x.dtype, x.tolist())


@pytest.mark.parametrize("dtype", _DTYPES)
def test_dtype_that_json_has_no_form_for_is_refused_in_json(manager: Manager, dtype: DType) -> None:
    value = "a" if dtype is DType.STRING else dtype is DType.BOOL or 1
    status, said = _rest(
        manager, "every_dtype", {"signature_name": dtype.label, "inputs": {"x": [value]}}
    )
    if dtype in _IN_JSON:
        assert (status, said) == (200, {"outputs": [value]})
    else:
        assert (status, list(said)) == (501, ["error"])
        assert f"to type: {dtype.label}" in said["error"]


def test_variable_of_tensorflow_1_counts(manager: Manager, channel: grpc.Channel) -> None:
    """The requests and answers of TensorFlow Serving's `saved_model_counter`."""
    model = "references"

    def over_grpc(signature: str, **inputs: float) -> Any:
        response = call(channel, "Predict", predict_request(model, inputs, signatureName=signature))
        return to_array(response.outputs["output"]).tolist()

    assert over_grpc("reset_counter") == 0
    assert over_grpc("get_counter") == 0
    assert over_grpc("incr_counter") == 1
    assert over_grpc("reset_counter") == 0
    assert over_grpc("incr_counter") == 1
    assert over_grpc("incr_counter_by", delta=3) == 4
    body = {"signature_name": "incr_counter_by", "inputs": {"delta": 0.5}}
    assert _rest(manager, model, body) == (200, {"outputs": 4.5})
    assert over_grpc("get_counter") == 4.5


def test_ragged_output_is_told_with_what_to_export(manager: Manager, channel: grpc.Channel) -> None:
    assert _rest(manager, "composites", {"instances": ["a b"]}) == (400, {"error": _RAGGED})
    for method, request in (
        ("Predict", predict_request("composites", {"x": np.array([b"a b"], object)})),
        ("Classify", example_request("ClassificationRequest", {"name": "composites"}, {})),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call(channel, method, request)
        error: Any = raised.value
        assert (error.code().name, error.details()) == ("INVALID_ARGUMENT", _RAGGED)


def test_other_signatures_of_such_an_export_answer(manager: Manager) -> None:
    body = {"signature_name": "plain", "instances": [1.0, 2.0]}
    assert _rest(manager, "composites", body) == (200, {"predictions": [2.0, 4.0]})


@pytest.mark.parametrize("folder", ["models_dir", "compiled_dir"])
def test_signatures_that_cannot_be_called_are_problems(
    request: pytest.FixtureRequest, folder: str
) -> None:
    path: Path = request.getfixturevalue(folder)
    with saved_model.load(path / "composites" / "1") as servable:
        assert list(servable.signatures) == ["plain"]
        assert servable.problems == [_RAGGED, _SPARSE]


@pytest.mark.parametrize("name", ["x", "x:0"])
def test_output_that_is_an_input_is_reported(tmp_path: Path, name: str) -> None:
    made = protos.message("tensorflow.SavedModel")(saved_model_schema_version=1)
    meta_graph = made.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    add(meta_graph.graph_def, "Placeholder", "x", dtype=DType.FLOAT)
    signature = meta_graph.signature_def["serving_default"]
    for infos, tensor in ((signature.inputs, "x:0"), (signature.outputs, name)):
        infos["end"].name, infos["end"].dtype = tensor, DType.FLOAT
        infos["end"].tensor_shape.unknown_rank = True
    (tmp_path / "saved_model.pb").write_bytes(made.SerializeToString())
    with saved_model.load(tmp_path) as servable:
        (problem,) = servable.problems
        assert problem == (
            "output 'end' of signature 'serving_default' is its input 'end', and TensorFlow refuses"
            " every call: x:0 is both fed and fetched. Export tf.identity of it"
        )
        with pytest.raises(InvalidArgument, match="x:0 is both fed and fetched"):
            servable.run("", {"end": np.zeros(1, np.float32)})
