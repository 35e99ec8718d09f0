"""The plain copy: what differs is there twice, what is alike once."""

from typing import Any

import pytest

from lambda_serving.compile.plain_copy import add_plain, bare_convolutions, fuse_as_exported
from lambda_serving.dtypes import DType
from lambda_serving.servables.compiled_folder import PLAIN
from support.graphs import add, constants, graph, node


def _network(convolution: str) -> Any:
    made = graph()
    constants(made, filters=[[[[1.0, 2.0]]]])
    add(made, "Placeholder", "x")
    add(made, "HashTableV2", "table")
    add(made, "Identity", "before", "x")
    add(made, convolution, "convolution", "before", "filters", "^before", T=DType.FLOAT)
    add(made, "Identity", "y", "convolution")
    add(made, "Identity", "z", "before")
    add(made, "LookupTableFindV2", "found", "table", "y")
    return made


def test_nodes_that_differ_and_those_behind_them_are_there_twice() -> None:
    made, plain = _network("_MklNativeConv2D"), _network("Conv2D")
    plain.node.add(op="NoOp", name="nobody")
    add_plain(made, plain, ["x"], ["x", "y", "found"])
    copies = {each.name.removeprefix(PLAIN): each for each in made.node if PLAIN in each.name}
    assert copies.keys() == {"convolution", "y", "found"}
    assert copies["convolution"].op == "Conv2D"
    assert list(copies["convolution"].input) == ["before", "filters", "^before"]
    assert list(copies["y"].input) == [f"{PLAIN}convolution"]
    assert list(copies["found"].input) == ["table", f"{PLAIN}y"]


def test_output_that_is_alike_is_there_twice_as_well() -> None:
    made = _network("Conv2D")
    add_plain(made, _network("Conv2D"), ["x"], ["z"])
    assert list(node(made, f"{PLAIN}z").input) == ["before"]


@pytest.mark.parametrize(
    ("users", "bare"),
    [
        (["BiasAdd"], False),
        (["FusedBatchNormV3"], False),
        (["Squeeze", "BiasAdd"], False),
        (["Squeeze"], True),
        (["Relu"], True),
        ([], True),
    ],
)
def test_convolutions_that_the_export_fuses_refuse_groups(users: list[str], bare: bool) -> None:  # noqa: FBT001 a parameter
    made = _network("Conv2D")
    del made.node[-3:]
    before = "convolution"
    for op in users:
        add(made, op, op, before)
        before = op
    assert bare_convolutions(made) == ({"convolution"} if bare else set())
    fuse_as_exported(made, bare_convolutions(made))
    convolution = node(made, "convolution")
    assert convolution.op == ("Conv2D" if bare else "_FusedConv2D")
    zeros = [] if bare else [f"{PLAIN}FLOAT_zeros_2"]
    assert list(convolution.input) == ["before", "filters", *zeros, "^before"]
