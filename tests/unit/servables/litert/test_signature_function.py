"""Zero rows, which LiteRT refuses, or answers by what is in memory."""

from collections.abc import Mapping

import numpy as np
import pytest

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import FailedPrecondition, InvalidArgument
from lambda_serving.servables.litert.interpreters import Interpreters, Model
from lambda_serving.servables.litert.signature_function import SignatureFunction
from lambda_serving.servables.servable import Signature, TensorSpec


class _Refusing(Model):
    """Doubles rows of `x`, and refuses none of them, as XNNPACK does with some graphs."""

    def __init__(self) -> None:
        self._said = ""

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert name == "f"
        if not len(inputs["x"]):
            raise InvalidArgument("number of elements overflowed")
        return {"y": 2 * inputs["x"], "z": inputs["x"].sum(1)}


def _function(z: tuple[int | None, ...] | None) -> SignatureFunction:
    inputs = {
        "factor": TensorSpec(DType.FLOAT, (), "factor:0"),
        "x": TensorSpec(DType.FLOAT, (None, 3), "x:0"),
    }
    outputs = {
        "y": TensorSpec(DType.FLOAT, (None, 3), "y:0"),
        "z": TensorSpec(DType.FLOAT, z, "z:0"),
    }
    pool = Interpreters(_Refusing(), _Refusing, 1)
    signature = Signature("f", inputs, outputs, "", b"", {})
    return SignatureFunction(signature, pool, follows_shapes=True)


def _ask(function: SignatureFunction, rows: int) -> list[tuple[int, ...]]:
    factor, x = np.array(2, np.float32), np.ones((rows, 3), np.float32)
    return [array.shape for array in function([factor, x], 0)]


def test_zero_rows_are_answered_by_none_of_one_row() -> None:
    function = _function((None,))
    assert [_ask(function, rows) for rows in (2, 0, 1)] == [
        [(2, 3), (2,)],
        [(0, 3), (0,)],
        [(1, 3), (1,)],
    ]


@pytest.mark.parametrize("shape", [(), (4,), None])
def test_zero_rows_are_refused_if_an_output_has_other_rows(
    shape: tuple[int | None, ...] | None,
) -> None:
    function = _function(shape)
    with pytest.raises(InvalidArgument, match="overflowed"):
        _ask(function, 0)
    assert _ask(function, 1) == [(1, 3), (1,)]


class _Answering(Model):
    """Answers a number, whatever it is asked."""

    def __init__(self, answer: float) -> None:
        self._answer, self._said = np.array(answer, np.float32), ""

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert name == "f"
        assert inputs
        return {"y": self._answer}


def test_inputs_that_hold_nan_have_an_interpreter_of_their_own_made_when_first_needed() -> None:
    made = list[Model]()

    def make() -> Model:
        made.append(_Answering(2))
        return made[-1]

    signature = Signature(
        "f",
        {"i": TensorSpec(DType.INT32, None, "i:0"), "x": TensorSpec(DType.FLOAT, None, "x:0")},
        {"y": TensorSpec(DType.FLOAT, (), "y:0")},
        "",
        b"",
        {},
    )
    usual, for_nan = Interpreters(_Answering(1), make, 1), Interpreters(None, make, 1)
    function = SignatureFunction(signature, usual, follows_shapes=True, for_nan=for_nan)

    def ask(*values: float) -> float:
        [answer] = function([np.array(7, np.int32), np.array(values, np.float32)], 0)
        return float(answer)

    assert [ask(1, 2), ask(), ask(np.inf, -np.inf), ask(1e38)] == [1, 1, 1, 1]
    assert not made
    assert [ask(np.nan, 1), ask(1, np.nan), ask(np.inf, np.nan, -np.inf)] == [2, 2, 2]
    assert len(made) == 1
    for _ in range(5):
        ask(1, 2)
    quick = [np.array(7, np.int32), np.ones(2, np.float32)]
    assert function.is_quick(quick)
    assert not function.is_quick([quick[0], np.array([1, np.nan], np.float32)])
    for pool in (usual, for_nan):
        pool.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        ask(np.nan)
