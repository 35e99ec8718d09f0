"""Clipping comes off oneDNN's convolutions; offsets and swishes become part of them."""

from typing import Any

import pytest

from lambda_serving.compile.onednn_fusions import fuse_offsets, fuse_swish, split_clipping
from lambda_serving.dtypes import DType
from support.graphs import add, constants, graph, node

_FUSED = "_MklNativeFusedConv2D"
_DEPTHWISE = "_MklNativeDepthwiseConv2dNative"


def _convolved(op: str, *fused: bytes) -> Any:
    made = graph()
    constants(made, filters=[[[[1.0]]]], offset=[1.0])
    add(made, "Placeholder", "x")
    arguments = ["offset"] if fused else []
    convolution = add(
        made, op, "convolution", "x", "filters", *arguments, T=DType.FLOAT, padding=b"SAME"
    )
    convolution.attr["fused_ops"].list.s.extend(fused)
    return made


@pytest.mark.parametrize("clipping", [b"Relu", b"Relu6"])
def test_clipping_that_loses_nan_comes_off(clipping: bytes) -> None:
    made = _convolved(_FUSED, b"BiasAdd", clipping)
    split_clipping(made)
    clipped, linear = node(made, "convolution"), node(made, "convolution/linear")
    assert (clipped.op, list(clipped.input)) == (clipping.decode(), ["convolution/linear"])
    assert dict(clipped.attr).keys() == {"T"}
    assert (linear.op, list(linear.input)) == (_FUSED, ["x", "filters", "offset"])
    assert list(linear.attr["fused_ops"].list.s) == [b"BiasAdd"]


@pytest.mark.parametrize("fused", [b"BiasAdd", b"Elu", b"LeakyRelu"])
def test_activation_that_keeps_nan_stays(fused: bytes) -> None:
    made = _convolved(_FUSED, fused)
    split_clipping(made)
    assert list(node(made, "convolution").attr["fused_ops"].list.s) == [fused]


def test_offset_becomes_part_of_a_depthwise_convolution() -> None:
    made = _convolved(_DEPTHWISE)
    add(made, "BiasAdd", "sum", "convolution", "offset")
    fuse_offsets(made, [])
    fused = node(made, "sum")
    assert (fused.op, list(fused.input)) == (
        "_MklNativeFusedDepthwiseConv2dNative",
        ["x", "filters", "offset"],
    )
    assert (fused.attr["num_args"].i, fused.attr["padding"].s) == (1, b"SAME")


@pytest.mark.parametrize(("offset", "kept"), [("x", []), ("offset", ["convolution"])])
def test_offset_that_is_fed_or_of_what_must_stay_is_left(offset: str, kept: list[str]) -> None:
    made = _convolved(_DEPTHWISE)
    add(made, "BiasAdd", "sum", "convolution", offset)
    fuse_offsets(made, kept)
    assert node(made, "sum").op == "BiasAdd"


def _swish(made: Any) -> Any:
    add(made, "Sigmoid", "sigmoid", "convolution")
    return add(made, "Mul", "product", "sigmoid", "convolution", T=DType.FLOAT)


def test_swish_becomes_part_of_the_convolution() -> None:
    made = _convolved(_FUSED, b"BiasAdd")
    _swish(made)
    fuse_swish(made, [])
    fused = node(made, "product")
    assert (fused.op, list(fused.input)) == (_FUSED, ["x", "filters", "offset"])
    assert list(fused.attr["fused_ops"].list.s) == [b"BiasAdd", b"_MklSwish"]
    assert {each.name for each in made.node} == {"filters", "offset", "x", "product"}


@pytest.mark.parametrize("op", [_FUSED, _DEPTHWISE])
def test_swish_of_a_convolution_that_cannot_take_it_is_one_operation(op: str) -> None:
    made = _convolved(op, *([b"BiasAdd"] if op == _FUSED else []))
    _swish(made)
    if op == _FUSED:
        add(made, "Neg", "also", "convolution")
    fuse_swish(made, [])
    assert (node(made, "product").op, list(node(made, "product").input)) == (
        "_MklSwish",
        ["convolution"],
    )


def test_any_other_product_is_left() -> None:
    made = _convolved(_FUSED, b"BiasAdd")
    add(made, "Sigmoid", "sigmoid", "x")
    add(made, "Mul", "product", "sigmoid", "convolution")
    fuse_swish(made, [])
    assert node(made, "product").op == "Mul"
