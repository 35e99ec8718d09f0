"""Answers that are written in pieces are those that protobuf writes at once."""

from collections.abc import Iterator

import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.api.rpc import large_answers
from lambda_serving.api.rpc.large_answers import predict_response
from lambda_serving.dtypes import Array, DType
from lambda_serving.protos.tensor_proto import fill

_DTYPES = [dtype for dtype in DType if dtype not in {DType.INVALID, DType.RESOURCE, DType.VARIANT}]


@pytest.fixture(autouse=True)
def _small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_answers, "_LARGE", 7)
        yield


def _array(dtype: DType) -> Array:
    if dtype is DType.STRING:
        return np.array([b"x" * number for number in range(30)], object).reshape(5, 6)
    return np.arange(30).astype(dtype.numpy).reshape(5, 6)


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("dtype", _DTYPES, ids=lambda dtype: dtype.name)
def test_outputs_of_every_dtype(dtype: DType, *, as_content: bool) -> None:
    outputs = {"y": _array(dtype), "z": _array(dtype).T, "one": _array(dtype)[0, 0, ...]}
    response = protos.message("tensorflow.serving.PredictResponse")()
    response.model_spec.name = "m"
    expected = type(response)()
    expected.CopyFrom(response)
    for name, array in outputs.items():
        fill(expected.outputs[name], array, as_content=as_content)
    written = predict_response(response, outputs, as_content=as_content)
    assert type(response).FromString(written) == expected
