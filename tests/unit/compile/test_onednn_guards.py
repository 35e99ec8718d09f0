"""Checks stand in front of oneDNN's convolutions whose inputs nothing proves, of no others."""

from typing import Any

import numpy as np
import pytest

from lambda_serving.compile.onednn_guards import check_values, ensure_shapes
from lambda_serving.compile.tensor_shapes import Shape, Shapes, forget_shapes
from lambda_serving.dtypes import DType
from lambda_serving.servables.graph_defs import constant
from support.graphs import add, constants, graph, node

_CONVOLUTION = "_MklNativeConv2D"
_FILTERS = np.ones((3, 3, 2, 2), np.float32)


def _convolved(*names: str, padding: bytes = b"SAME") -> Any:
    """Convolutions, each of the one before, the first of the placeholder `x`."""
    made = graph()
    constants(made, filters=_FILTERS)
    add(made, "Placeholder", "x")
    for before, name in zip(("x", *names), names, strict=False):
        add(made, _CONVOLUTION, name, before, "filters", T=DType.FLOAT, padding=padding)
    return made


def _infer(made: Any, *, declared: bool = True, x: Shape = (None, 8, 8, 2)) -> Shapes:
    """What TensorFlow infers of `_convolved` with `SAME`, `x` of that declared shape."""

    def shape(tensor: str) -> Shape:
        found = {each.name: each for each in made.node}[tensor]
        match found.op:
            case "Placeholder":
                return x if declared else None
            case "Const":
                return _FILTERS.shape
            case "EnsureShape":
                sizes = [dim.size for dim in found.attr["shape"].shape.dim]
                return [None if size < 0 else size for size in sizes]
            case _:
                before = shape(found.input[0])
                return before or [None, None, None, 2]

    return shape


@pytest.mark.parametrize(
    ("declared", "wanted"),
    [
        ((None, 8, 8, 2), [-1, 8, 8, 2]),
        ((5, 8, 8, 2), [-1, 8, 8, 2]),
        ((None, None, None, None), [-1, -1, -1, 2]),
        ((None, 4, 4, 6), [-1, 4, 4, 6]),
        (None, [-1, -1, -1, 2]),
    ],
)
def test_first_convolution_takes_what_is_declared_of_any_number_of_rows(
    declared: Shape, wanted: list[int]
) -> None:
    made = _convolved("one", "two")
    ensure_shapes(made, lambda g, declared=True, x=declared: _infer(g, declared=declared, x=x))
    checks = [each for each in made.node if each.op == "EnsureShape"]
    assert [[dim.size for dim in each.attr["shape"].shape.dim] for each in checks] == [wanted]
    assert list(checks[0].input) == ["x"]
    assert node(made, "one").input[0] == checks[0].name
    assert node(made, "two").input[0] == "one"


def test_convolutions_of_one_tensor_share_a_check() -> None:
    made = _convolved("one")
    add(made, _CONVOLUTION, "other", "x", "filters", T=DType.FLOAT)
    ensure_shapes(made, _infer)
    assert node(made, "one").input[0] == node(made, "other").input[0] == "x/checked"


def _least(made: Any, convolution: str) -> list[int] | None:
    """The size of the slice that the convolution waits for."""
    for each in node(made, convolution).input:
        if each.startswith("^"):
            sizes: list[int] = constant(node(made, f"{each[1:]}/size")).tolist()
            return sizes
    return None


def test_only_what_may_have_no_values_is_checked_for_some() -> None:
    made = _convolved("one", "two")
    add(made, "MaxPool", "pool", "two", padding=b"SAME")
    add(made, "Relu", "active", "pool")
    add(made, "AddV2", "sum", "active", "two")
    add(made, "BooleanMask", "some", "two")
    for name, source in (("three", "sum"), ("four", "some")):
        add(made, _CONVOLUTION, name, source, "filters", T=DType.FLOAT, padding=b"SAME")
    check_values(made, lambda _: (None, 8, 8, 2))
    least = {name: _least(made, name) for name in ("one", "two", "three", "four")}
    assert least == {"one": [1, 1, 1, 1], "two": None, "three": None, "four": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("size", "padding", "explicit", "least"),
    [
        (None, b"SAME", (), None),
        (None, b"VALID", (), [1, 3, 3, 1]),
        (8, b"VALID", (), None),
        (2, b"VALID", (), [1, 3, 3, 1]),
        (None, b"EXPLICIT", (0, 0, 1, 0, 1, 1, 0, 0), [1, 2, 1, 1]),
    ],
)
def test_window_that_may_not_fit_is_checked(
    size: int | None, padding: bytes, explicit: tuple[int, ...], least: list[int] | None
) -> None:
    made = _convolved("one")
    two = add(made, _CONVOLUTION, "two", "one", "filters", T=DType.FLOAT, padding=padding)
    two.attr["explicit_paddings"].list.i.extend(explicit)
    known = {"filters": _FILTERS.shape}
    check_values(made, lambda tensor: known.get(tensor, (None, size, size, 2)))
    assert _least(made, "two") == least


def test_values_behind_a_pool_are_not_taken_for_granted() -> None:
    made = _convolved("one")
    add(made, "MaxPool", "pool", "one", padding=b"VALID")
    add(made, _CONVOLUTION, "two", "pool", "filters", T=DType.FLOAT, padding=b"SAME")
    check_values(
        made, lambda tensor: (None, None, None, 2) if tensor != "filters" else (3, 3, 2, 2)
    )
    assert _least(made, "two") == [1, 1, 1, 1]


def test_shapes_that_nothing_checks_are_forgotten() -> None:
    made = graph()
    fed = add(made, "Placeholder", "x")
    fed.attr["shape"].shape.dim.add(size=8)
    function = made.library.function.add()
    for loop in (made.node.add(op="While", name="loop"), function.node_def.add(op="If")):
        loop.attr["output_shapes"].list.shape.add().dim.add(size=8)
        loop.attr["T" if loop.op == "While" else "Tout"].list.type.append(DType.FLOAT)
    forget_shapes(made)
    assert fed.attr["shape"].shape.unknown_rank
    for loop in (node(made, "loop"), function.node_def[0]):
        (shape,) = loop.attr["output_shapes"].list.shape
        assert shape.unknown_rank
        assert not shape.dim
