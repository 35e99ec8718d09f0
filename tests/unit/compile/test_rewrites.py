"""Scales are folded, offsets named and filters packed where that is right, and only there."""

from typing import Any

import numpy as np
import pytest

from lambda_serving.compile.rewrites import fold_scales, fuse_sums, name_offsets, pack_filters
from lambda_serving.compile.tensor_shapes import Shapes
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.graph_defs import constant
from support.graphs import add, constants, graph, node

_DEPTHWISE = "DepthwiseConv2dNative"
_FILTERS = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)


def _convolved(op: str, filters: Array = _FILTERS, **attributes: Any) -> Any:
    """A graph with `convolution` of a placeholder by `filters`."""
    made = graph()
    constants(made, filters=filters)
    add(made, "Placeholder", "x")
    add(made, op, "convolution", "x", "filters", T=DType.FLOAT, **attributes)
    return made


def test_scale_behind_a_depthwise_convolution_goes_into_its_filters() -> None:
    made = _convolved(_DEPTHWISE, padding=b"SAME")
    constants(made, scale=np.arange(6, dtype=np.float32).reshape(1, 1, 1, 6))
    add(made, "NoOp", "gate")
    add(made, "Mul", "product", "scale", "convolution", "^gate", T=DType.FLOAT)
    fold_scales(made)
    product = node(made, "product")
    assert (product.op, product.attr["padding"].s) == (_DEPTHWISE, b"SAME")
    assert list(product.input) == ["x", "product/scaled_filters", "^gate"]
    scaled = _FILTERS * np.arange(6, dtype=np.float32).reshape(3, 2)
    assert constant(node(made, "product/scaled_filters")).tolist() == scaled.tolist()


@pytest.mark.parametrize(
    ("op", "scale", "attributes"),
    [
        (_DEPTHWISE, np.ones(3, np.float32), {}),
        (_DEPTHWISE, np.ones((2, 1, 1, 3), np.float32), {}),
        (_DEPTHWISE, np.ones((1, 1, 1, 1, 6), np.float32), {}),
        (_DEPTHWISE, np.ones((6, 1), np.float32), {}),
        (_DEPTHWISE, np.float32(2).reshape(()), {}),
        (_DEPTHWISE, np.ones(6, np.float32), {"data_format": b"NCHW"}),
        ("Conv2D", np.ones(2, np.float32), {}),  # TensorFlow's own optimiser folds these
    ],
)
def test_any_other_product_stays(op: str, scale: Array, attributes: dict[str, Any]) -> None:
    made = _convolved(op, **attributes)
    constants(made, scale=scale)
    add(made, "Mul", "product", "convolution", "scale", T=DType.FLOAT)
    fold_scales(made)
    assert node(made, "product").op == "Mul"


def test_scale_of_a_convolution_that_others_use_stays() -> None:
    made = _convolved(_DEPTHWISE)
    constants(made, scale=np.ones(6, np.float32))
    add(made, "Mul", "product", "convolution", "scale", T=DType.FLOAT)
    add(made, "Neg", "other", "convolution")
    fold_scales(made)
    assert node(made, "product").op == "Mul"


@pytest.mark.parametrize(
    ("op", "filters", "channels", "attributes"),
    [
        ("Conv2D", _FILTERS, 2, {}),
        (_DEPTHWISE, _FILTERS, 6, {}),
        ("MatMul", np.ones((3, 5), np.float32), 5, {}),
        ("MatMul", np.ones((3, 5), np.float32), 3, {"transpose_b": True}),
    ],
)
@pytest.mark.parametrize("total", ["Add", "AddV2"])
def test_offset_by_channel_is_a_bias(
    op: str, filters: Array, channels: int, attributes: dict[str, Any], total: str
) -> None:
    made = _convolved(op, filters, **attributes)
    offset = np.arange(channels, dtype=np.float32).reshape(1, channels)
    constants(made, offset=offset)
    add(made, total, "total", "offset", "convolution", T=DType.FLOAT)
    name_offsets(made)
    found = node(made, "total")
    assert (found.op, list(found.input)) == ("BiasAdd", ["convolution", "total/bias"])
    assert constant(node(made, "total/bias")).tolist() == list(range(channels))
    assert constant(node(made, "offset")).tolist() == offset.tolist()


@pytest.mark.parametrize(
    ("filters", "offset"),
    [
        (_FILTERS, np.ones(1, np.float32)),
        (_FILTERS, np.ones((5, 1, 1, 2), np.float32)),
        (_FILTERS.astype(np.int32), np.ones(2, np.int32)),
    ],
)
def test_any_other_sum_stays(filters: Array, offset: Array) -> None:
    made = _convolved("Conv2D", filters)
    node(made, "convolution").attr["T"].type = DType.of(filters.dtype)
    constants(made, offset=offset)
    add(made, "AddV2", "total", "convolution", "offset", T=DType.of(offset.dtype))
    name_offsets(made)
    assert node(made, "total").op == "AddV2"


def test_sum_of_two_constants_or_of_none_stays() -> None:
    made = _convolved("Conv2D")
    constants(made, one=[1.0, 2.0], two=[1.0, 2.0])
    add(made, "AddV2", "of_constants", "one", "two", T=DType.FLOAT)
    add(made, "AddV2", "residual", "convolution", "convolution", T=DType.FLOAT)
    name_offsets(made)
    assert {node(made, name).op for name in ("of_constants", "residual")} == {"AddV2"}


@pytest.mark.parametrize(
    ("source", "dtype", "op"),
    [
        ("Const", DType.FLOAT, "_MklNativeFusedConv2D"),
        ("ReadVariableOp", DType.FLOAT, "_MklNativeFusedConv2D"),
        ("Placeholder", DType.FLOAT, "_FusedConv2D"),
        ("Const", DType.DOUBLE, "_FusedConv2D"),
    ],
)
def test_filters_are_packed_if_they_never_change(source: str, dtype: DType, op: str) -> None:
    made = graph()
    add(made, "Placeholder", "x")
    add(made, source, "filters")
    add(made, "_FusedConv2D", "convolution", "x", "filters", T=dtype)
    pack_filters(made)
    convolution = node(made, "convolution")
    assert convolution.op == op
    packed = op.startswith("_Mkl")
    assert convolution.attr["is_filter_const"].b is packed
    assert convolution.attr["_kernel"].s == (b"MklNameChangeOp" if packed else b"")


@pytest.mark.parametrize("op", ["Placeholder", "Const"])
def test_offset_that_is_fed_or_another_layout_keeps_the_kernel(op: str) -> None:
    made = graph()
    constants(made, filters=_FILTERS)
    for name, kind in (("x", "Placeholder"), ("offset", op)):
        add(made, kind, name)
    layout = b"NHWC" if op == "Placeholder" else b"NCHW"
    add(
        made,
        "_FusedConv2D",
        "convolution",
        "x",
        "filters",
        "offset",
        T=DType.FLOAT,
        data_format=layout,
    )
    pack_filters(made)
    assert node(made, "convolution").op == "_FusedConv2D"


def _summed(*, other: str = "x") -> Any:
    """`total`, of two packed convolutions of a placeholder and of `other`."""
    made = graph()
    constants(made, filters=_FILTERS, bias=[0.0, 0.0])
    add(made, "Placeholder", "x")
    for name, source in (("one", "x"), ("two", "pooled"), ("three", other)):
        convolution = add(
            made, "_MklNativeFusedConv2D", name, source, "filters", "bias", T=DType.FLOAT
        )
        convolution.attr["fused_ops"].list.s.extend([b"BiasAdd"] if name == "one" else [b"Elu"])
        convolution.attr["TArgs"].list.type.append(DType.FLOAT)
    add(made, "MaxPool", "pooled", "x")
    add(made, "AddV2", "total", "two" if other == "x" else "three", "one")
    add(made, "Relu", "active", "total")
    return made


def _known(_: str) -> tuple[int | None, ...]:
    return (None, 7, 7, 2)


def test_sum_of_branches_is_part_of_the_convolution_and_clipping_is_not() -> None:
    made = _summed()
    fuse_sums(made, _known, [])
    fused = node(made, "total")
    assert (fused.op, list(fused.input)) == (
        "_MklNativeFusedConv2D",
        ["x", "filters", "bias", "two"],
    )
    assert list(fused.attr["fused_ops"].list.s) == [b"BiasAdd", b"Add"]
    assert (fused.attr["num_args"].i, len(fused.attr["TArgs"].list.type)) == (2, 2)
    assert "one" not in {each.name for each in made.node}
    assert (node(made, "active").op, list(node(made, "active").input)) == ("Relu", ["total"])


@pytest.mark.parametrize(
    ("other", "shapes", "kept"),
    [
        ("elsewhere", _known, []),
        ("x", lambda _: None, []),
        ("x", lambda _: (None, None, None, 2), []),
        ("x", lambda name: (None, 7, 7, 2) if name == "one" else (None, 1, 1, 2), []),
        ("x", _known, ["one"]),
    ],
)
def test_sum_of_what_may_have_another_shape_or_must_stay_is_left(
    other: str, shapes: Shapes, kept: list[str]
) -> None:
    made = _summed(other=other)
    add(made, "Placeholder", "elsewhere")
    fuse_sums(made, shapes, kept)
    assert node(made, "total").op == "AddV2"


def test_convolution_that_others_use_is_left() -> None:
    made = _summed()
    add(made, "Neg", "also", "one")
    fuse_sums(made, _known, [])
    assert node(made, "total").op == "AddV2"
