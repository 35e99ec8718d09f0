"""Predict over a servable that gives its inputs back, one of which may be left out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.api.rpc.predict import prediction
from lambda_serving.core.basic_manager import Loaded
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from lambda_serving.model_spec import ServableId
from lambda_serving.protos.tensor_proto import fill, to_array
from lambda_serving.servables.servable import Signature, TensorSpec
from support.functions import Computed, servable_of


def _echo() -> Computed:
    """The first input as `y`, the second as `z`."""
    return Computed(lambda a, b: [a, b])


def _loaded(defaults: Mapping[str, Array], function: Computed) -> Loaded:
    signature = Signature(
        "serving_default",
        {name: TensorSpec(DType.FLOAT, None, f"feed_{name}:0") for name in ("a", "b")},
        {name: TensorSpec(DType.FLOAT, None, f"{name}:0") for name in ("y", "z")},
        method_name="",
        definition=b"",
        defaults=defaults,
    )
    return Loaded(ServableId("m", 7), servable_of(signature, function=function))


def _request(inputs: Mapping[str, Any], output_filter: Sequence[str] = (), **spec: Any) -> Any:
    request = protos.message("tensorflow.serving.PredictRequest")(output_filter=output_filter)
    request.model_spec.MergeFrom(protos.message("tensorflow.serving.ModelSpec")(name="m", **spec))
    for name, value in inputs.items():
        fill(request.inputs[name], np.asarray(value, np.float32))
    return request


def _with_dimensions(request: Any, sizes: Sequence[int]) -> Any:
    for size in sizes:
        request.inputs["b"].tensor_shape.dim.add(size=size)
    return request


def _at_most_1000(size: int) -> None:
    if size > 1000:
        raise ResourceExhausted(f"{size} bytes")


def _predict(
    request: Any, defaults: Mapping[str, Array] | None = None, *, as_content: bool = False
) -> Any:
    loaded = _loaded(defaults or {}, _echo())
    run = prediction(loaded, request, admit=_at_most_1000, as_content=as_content)
    response = protos.message("tensorflow.serving.PredictResponse")
    return response.FromString(run.perform(loaded.servable, 0))


def _outputs(response: Any) -> dict[str, Any]:
    return {name: to_array(proto).tolist() for name, proto in response.outputs.items()}


def test_answers_all_outputs_and_what_answered() -> None:
    response = _predict(_request({"a": [1], "b": 2}))
    assert _outputs(response) == {"y": [1.0], "z": 2.0}
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 7, "serving_default")
    assert list(response.outputs["y"].float_val) == [1.0]


def test_answers_by_content_when_told_to() -> None:
    response = _predict(_request({"a": [1], "b": 2}), as_content=True)
    assert response.outputs["y"].tensor_content == np.float32(1).tobytes()
    assert _outputs(response) == {"y": [1.0], "z": 2.0}


def test_answers_what_the_filter_names() -> None:
    assert _outputs(_predict(_request({"a": 1, "b": 2}, ["z"]))) == {"z": 2.0}


def test_inputs_with_defaults_may_be_left_out() -> None:
    defaults = {"b": np.array(5, np.float32)}
    assert _outputs(_predict(_request({"a": 1}), defaults)) == {"y": 1.0, "z": 5.0}
    assert _outputs(_predict(_request({"a": 1, "b": 2}), defaults)) == {"y": 1.0, "z": 2.0}


def test_timeout_reaches_the_run() -> None:
    function = _echo()
    request = _request({"a": 1, "b": 2})
    loaded = _loaded({}, function)
    prediction(loaded, request, admit=_at_most_1000, as_content=False).perform(
        loaded.servable, 1234
    )
    assert [timeout_ms for _, timeout_ms in function.calls] == [1234]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            _request({"a": 1}),
            (
                "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}."
                " Missing but required: {b}."
            ),
        ),
        (
            _request({"a": 1, "b": 2, "c": 3}),
            (
                "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b})."
                " Sent extra: {c}. Missing but required: {}."
            ),
        ),
        (
            _request({"a": 1, "c": 3}),
            (
                "Signature input alias: b(feed name: feed_b:0) not found in request and no"
                " default value provided. Inputs expected to be in the request {a,c}, or default"
                " input alias set: "
            ),
        ),
        (
            _request({"a": 1, "b": 2}, ["x"]),
            (
                "output tensor alias not found in signature: x Outputs expected to be in the set"
                " {y,z}."
            ),
        ),
        (_request({"a": 1, "b": 2}, ["y", "y"]), "duplicate output tensor alias: y"),
        (
            _with_dimensions(_request({"a": 1, "b": 2}), [1] * 65),
            "tensor parsing error: b. A tensor has 65 dimensions, at most 64 are supported",
        ),
    ],
)
def test_request_that_does_not_fit_the_signature_is_refused(request_: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        _predict(request_)
    assert str(raised.value) == message


def test_wrong_name_beside_defaults_is_refused() -> None:
    with pytest.raises(InvalidArgument) as raised:
        _predict(_request({"a": 1, "c": 3}), {"b": np.array(5, np.float32)})
    assert str(raised.value) == (
        "Inputs contains invalid name. Used request inputs: a, request input: a,c"
    )


def test_unknown_signature_is_a_failed_precondition() -> None:
    with pytest.raises(FailedPrecondition) as raised:
        _predict(_request({"a": 1, "b": 2}, signature_name="x"))
    assert str(raised.value) == 'Serving signature key "x" not found.'


def test_inputs_together_are_within_the_limit_each_with_what_it_stands_for() -> None:
    request = _request({"a": [1], "b": [2]})
    for proto in request.inputs.values():
        proto.tensor_shape.dim[0].size = 150  # 600 bytes
    with pytest.raises(ResourceExhausted, match="^1200 bytes$"):
        _predict(request)


@pytest.mark.parametrize(
    ("name", "position"), [("a", 0), ("b", 1)], ids=["the first", "the second"]
)
def test_tensor_of_another_dtype_is_refused_before_it_is_read(name: str, position: int) -> None:
    request = _request({"a": [1], "b": [2]})
    request.inputs[name].Clear()
    request.inputs[name].MergeFrom(
        protos.message("tensorflow.TensorProto")(dtype=DType.STRING, string_val=[b"x"])
    )
    request.inputs[name].tensor_shape.dim.add(size=1 << 40)
    with pytest.raises(InvalidArgument) as raised:
        _predict(request)
    assert str(raised.value) == f"Expects arg[{position}] to be float but string is provided"
