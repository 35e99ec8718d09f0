"""A servable over functions that are told what to answer."""

from dataclasses import replace

import numpy as np
import pytest

from lambda_serving.dtypes import DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.servables.servable import Servable, Signature, TensorSpec
from support.functions import Computed, servable_of


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


def _sum() -> Computed:
    """Answers the difference and the sum of two arrays."""
    return Computed(lambda a, b: [a - b, a + b])


def _servable(function: Computed, *names: str) -> Servable:
    return servable_of(*map(_signature, names), function=function)


def test_inputs_go_in_by_the_order_of_the_signature_and_outputs_come_out_by_name() -> None:
    function = _sum()
    servable = _servable(function, "serving_default")

    answer = servable.run(
        "serving_default", {"b": np.array([1.0]), "a": np.array([5.0])}, timeout_ms=7
    )

    assert answer == {"difference": np.array([4.0]), "sum": np.array([6.0])}
    assert function.calls == [([np.array([5.0]), np.array([1.0])], 7)]


def test_no_timeout_is_zero() -> None:
    function = _sum()
    servable = _servable(function, "serving_default")

    servable.run("", {"a": np.array(2.0), "b": np.array(1.0)})

    assert function.calls == [([np.array(2.0), np.array(1.0)], 0)]


def test_empty_name_is_the_default_signature() -> None:
    servable = _servable(_sum(), "other", "serving_default")
    assert servable.signature("").name == "serving_default"
    assert servable.signature("other").name == "other"


@pytest.mark.parametrize(("name", "shown"), [("nope", "nope"), ("", "serving_default")])
def test_unknown_signature_is_refused_in_tensorflow_servings_words(name: str, shown: str) -> None:
    servable = _servable(_sum(), "other")
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
    function = _sum()
    servable = _servable(function, "serving_default")
    with pytest.raises(InvalidArgument) as raised:
        servable.run("", {name: np.array(value) for name, value in inputs.items()})
    assert (str(raised.value), function.calls) == (message, [])


def test_context_manager_closes_once_even_when_its_block_fails() -> None:
    closed: list[str] = []
    servable = servable_of(function=_sum(), close=lambda: closed.append("closed"))
    with pytest.raises(InvalidArgument), servable:
        servable.run("", {})
    assert closed == ["closed"]


def test_run_is_as_quick_as_the_function_of_its_signature() -> None:
    quick = Computed(lambda a, b: [a - b, a + b], is_quick=lambda inputs: len(inputs[0]) == 1)
    inputs = {"a": np.ones(1), "b": np.ones(1)}
    assert _servable(quick, "f").is_quick("f", inputs)
    assert not _servable(quick, "f").is_quick("f", {"a": np.ones(2), "b": np.ones(2)})
    assert not _servable(_sum(), "f").is_quick("f", inputs)


def test_only_the_outputs_asked_for_are_computed() -> None:
    asked, part, whole = [], Computed(lambda a, b: [a + b]), _sum()

    def select(name: str, outputs: tuple[str, ...]) -> Computed:
        asked.append((name, outputs))
        return part

    servable = replace(_servable(whole, "f"), select=select)
    inputs = {"a": np.array([5.0]), "b": np.array([1.0])}
    answer = servable.run("f", inputs, timeout_ms=7, only=["sum"])
    assert answer == {"sum": np.array([6.0])}
    assert (asked, whole.calls) == ([("f", ("sum",))], [])
    assert part.calls == [([np.array([5.0]), np.array([1.0])], 7)]
