"""Signatures that a converter left out, because it merged them with equal ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from lambda_serving.compile import NotCompilable, verify
from lambda_serving.compile.expected_answers import Questions
from lambda_serving.compile.merged_signatures import aliases
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.servable import Servable, Signature, TensorSpec

_INPUTS = {"x": np.array([1, 2], np.float32)}


@dataclass(frozen=True)
class _Times:
    """Multiplies by a factor."""

    factor: float

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        return bool(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        assert timeout_ms
        return [inputs[0] * np.float32(self.factor)]


def _signature(name: str, dtype: DType = DType.FLOAT, tensor: str = "x:0") -> Signature:
    specs = {"x": TensorSpec(dtype, (None,), tensor)}
    return Signature(name, specs, {"y": TensorSpec(DType.FLOAT, None, "y:0")}, "", b"", {})


def _exported(factors: Mapping[str, float]) -> tuple[dict[str, Signature], Callable[[], Servable]]:
    made = {name: _signature(name) for name in factors}
    functions = {name: _Times(factor) for name, factor in factors.items()}
    return made, lambda: Servable(made, functions, definitions={}, close=lambda: None)


def _asked(load: Callable[[], Servable], names: Sequence[str]) -> Questions:
    inputs: verify.Inputs = {name: [_INPUTS] for name in names}
    with load() as servable:
        return Questions(inputs, verify.answers(servable, inputs), None)


@pytest.mark.parametrize(
    ("factors", "file", "found"),
    [
        ({"serve": 2, "serving_default": 2}, ["serving_default"], {"serve": "serving_default"}),
        ({"a": 3, "b": 2, "c": 2}, ["a", "b"], {"c": "b"}),
        ({"a": 2, "b": 3, "c": 2, "d": 3}, ["a", "b"], {"c": "a", "d": "b"}),
        ({"a": 2, "b": 3}, ["a", "b"], {}),
    ],
)
def test_lost_signature_is_one_that_answers_like_it(
    factors: dict[str, float], file: list[str], found: dict[str, str]
) -> None:
    export, load = _exported(factors)
    there = {name: _signature(name, tensor=f"{name}_x:0") for name in file}
    assert aliases(export, there, _asked(load, list(factors)), load) == found


def test_signature_that_no_other_is_like_is_told() -> None:
    export, load = _exported({"a": 2, "b": 3, "c": 4})
    questions = _asked(load, ["a", "b", "c"])
    lost = pytest.raises(NotCompilable, match="the converter leaves out its signature 'c'")
    with lost:
        aliases(export, {"a": _signature("a"), "b": _signature("b")}, questions, load)
    integers = {name: _signature(name, DType.INT32) for name in "c"}
    with pytest.raises(
        NotCompilable,
        match=r"the inputs x \(int32, \[any\]\) and .* instead of the inputs x \(float",
    ):
        aliases({"c": export["c"]}, integers, questions, load)
