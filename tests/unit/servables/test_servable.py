"""A servable over functions that are told what to answer."""

from collections.abc import Sequence

import numpy as np
import pytest

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.servables.servable import Servable, Signature, TensorSpec


class _Sum:
    """A function that keeps its calls and answers the sum and the difference of two arrays."""

    def is_quick(self, _: Sequence[Array]) -> bool:
        return False

    def __init__(self) -> None:
        self.calls: list[tuple[list[Array], int]] = []

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        self.calls.append((list(inputs), timeout_ms))
        a, b = inputs
        return [a - b, a + b]


def _signature(name: str) -> Signature:
    def spec(tensor: str) -> TensorSpec:
        return TensorSpec(DType.FLOAT, (None,), tensor)

    return Signature(
        name,
        inputs={"a": spec("a:0"), "b": spec("b:0")},
        outputs={"difference": spec("d:0"), "sum": spec("s:0")},
        method_name="",
        definition=b"",
        defaults={},
    )


def _servable(function: _Sum, closed: list[str], *names: str) -> Servable:
    return Servable(
        {name: _signature(name) for name in names},
        dict.fromkeys(names, function),
        definitions={},
        close=lambda: closed.append("closed"),
    )


def test_inputs_go_in_by_the_order_of_the_signature_and_outputs_come_out_by_name() -> None:
    function = _Sum()
    servable = _servable(function, [], "serving_default")

    answer = servable.run(
        "serving_default", {"b": np.array([1.0]), "a": np.array([5.0])}, timeout_ms=7
    )

    assert answer == {"difference": np.array([4.0]), "sum": np.array([6.0])}
    assert function.calls == [([np.array([5.0]), np.array([1.0])], 7)]


def test_no_timeout_is_zero() -> None:
    function = _Sum()
    servable = _servable(function, [], "serving_default")

    servable.run("", {"a": np.array(2.0), "b": np.array(1.0)})

    assert function.calls == [([np.array(2.0), np.array(1.0)], 0)]


def test_empty_name_is_the_default_signature() -> None:
    servable = _servable(_Sum(), [], "other", "serving_default")
    assert servable.signature("").name == "serving_default"
    assert servable.signature("other").name == "other"


@pytest.mark.parametrize(("name", "shown"), [("nope", "nope"), ("", "serving_default")])
def test_unknown_signature_is_refused_in_tensorflow_servings_words(name: str, shown: str) -> None:
    servable = _servable(_Sum(), [], "other")
    with pytest.raises(InvalidArgument) as raised:
        servable.run(name, {})
    assert str(raised.value) == f'Serving signature name: "{shown}" not found in signature def'


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"a": 1, "c": 2, "d": 3},
            (
                "input size does not match signature: 3!=2 len({a,c,d}) != len({a,b})."
                " Sent extra: {c,d}. Missing but required: {b}."
            ),
        ),
        (
            {},
            (
                "input size does not match signature: 0!=2 len({}) != len({a,b})."
                " Sent extra: {}. Missing but required: {a,b}."
            ),
        ),
    ],
)
def test_inputs_of_other_names_are_refused(inputs: dict[str, int], message: str) -> None:
    function = _Sum()
    servable = _servable(function, [], "serving_default")
    with pytest.raises(InvalidArgument) as raised:
        servable.run("", {name: np.array(value) for name, value in inputs.items()})
    assert (str(raised.value), function.calls) == (message, [])


def test_context_manager_closes_once_even_when_its_block_fails() -> None:
    closed: list[str] = []
    with pytest.raises(InvalidArgument), _servable(_Sum(), closed) as servable:
        servable.run("", {})
    assert closed == ["closed"]


def test_run_is_as_quick_as_the_function_of_its_signature() -> None:
    class Quick(_Sum):
        def is_quick(self, inputs: Sequence[Array]) -> bool:
            return len(inputs[0]) == 1

    functions = {"quick": Quick(), "slow": _Sum()}
    servable = Servable(
        {name: _signature(name) for name in functions},
        functions,
        definitions={},
        close=lambda: None,
    )
    inputs = {"a": np.ones(1), "b": np.ones(1)}
    assert servable.is_quick("quick", inputs)
    assert not servable.is_quick("quick", {"a": np.ones(2), "b": np.ones(2)})
    assert not servable.is_quick("slow", inputs)


def test_only_the_outputs_asked_for_are_computed() -> None:
    asked = []

    class Sum:
        def is_quick(self, _: Sequence[Array]) -> bool:
            return False

        def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
            assert timeout_ms == 7
            return [inputs[0] + inputs[1]]

    def select(name: str, outputs: tuple[str, ...]) -> Sum:
        asked.append((name, outputs))
        return Sum()

    all_of_them = _Sum()
    servable = Servable(
        {"f": _signature("f")},
        {"f": all_of_them},
        definitions={},
        close=lambda: None,
        select=select,
    )
    inputs = {"a": np.array([5.0]), "b": np.array([1.0])}
    answer = servable.run("f", inputs, timeout_ms=7, only=["sum"])
    assert answer == {"sum": np.array([6.0])}
    assert (asked, all_of_them.calls) == ([("f", ("sum",))], [])
