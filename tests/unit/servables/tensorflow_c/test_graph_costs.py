"""Which graphs cost what the shapes of their inputs say."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lambda_serving.servables.tensorflow_c.graph_costs import Costs
from support.graphs import add, constants, graph


def _sized(op: str, of: str, *inputs: str) -> Callable[[Any], None]:
    """An op sized by the tensor `of`, the values of `x` or of its shape."""

    def build(to: Any) -> None:
        constants(to, two=np.array([2], np.int32), zero=np.array(0, np.int32), one=np.float32(1))
        add(to, "Cast", "values", "x")
        add(to, "Shape", "shape", "x")
        add(to, "StridedSlice", "rows", "shape", "zero", "two", "two")
        add(to, "Pack", "packed", "rows", "two")
        add(to, "Mul", "mixed", "packed", "values")
        add(to, op, "y", *(of if each == "SIZE" else each for each in inputs))

    return build


_SIZES = [
    ("Fill", "SIZE", "one"),
    ("Tile", "x", "SIZE"),
    ("Range", "zero", "SIZE", "two"),
    ("OneHot", "x", "SIZE", "one", "one"),
    ("Pad", "x", "SIZE"),
    ("BroadcastTo", "x", "SIZE"),
    ("ResizeBilinear", "x", "SIZE"),
    ("RandomUniform", "SIZE"),
    ("TopKV2", "x", "SIZE"),
    ("LinSpace", "one", "one", "SIZE"),
    ("Conv2DBackpropInput", "SIZE", "x", "x"),
    ("Reshape", "x", "SIZE"),
    ("Slice", "x", "zero", "SIZE"),
    ("Slice", "x", "SIZE", "two"),
    ("StridedSlice", "x", "zero", "SIZE", "two"),
    ("Transpose", "x", "SIZE"),
    ("Sum", "x", "SIZE"),
    ("ExpandDims", "x", "SIZE"),
    ("ConcatV2", "x", "x", "SIZE"),
    ("SplitV", "x", "SIZE", "zero"),
    ("SpaceToBatchND", "x", "two", "SIZE"),
    ("GatherV2", "x", "x", "SIZE"),
]


def _follows(build: Callable[[Any], None]) -> bool:
    made = graph()
    add(made, "Placeholder", "x")
    build(made)
    return Costs(made).follow_shapes(["y:0"])


@pytest.mark.parametrize(("op", "inputs"), [(op, inputs) for op, *inputs in _SIZES])
@pytest.mark.parametrize(
    ("of", "follows"),
    [("two", True), ("shape", True), ("packed", True), ("values", False), ("mixed", False)],
)
def test_op_whose_size_an_input_decides(
    op: str,
    inputs: list[str],
    of: str,
    follows: bool,  # noqa: FBT001 - as pytest passes it
) -> None:
    assert _follows(_sized(op, of, *inputs)) == follows


@pytest.mark.parametrize(
    "op",
    [
        *("While", "StatelessWhile", "LoopCond", "If", "Case", "Switch", "Merge"),
        *("QueueDequeueV2", "IteratorGetNext", "BatchFunction", "PyFunc", "AssignVariableOp"),
        *(
            "Where",
            "Unique",
            "DynamicPartition",
            "NonMaxSuppressionV3",
            "SparseToDense",
            "Bincount",
            "GatherNd",
        ),
        *("DecodeJpeg", "DecodeCompressed", "ReadFile", "XlaLaunch", "Svd", "Bincount", "MyOwnOp"),
    ],
)
def test_op_that_is_not_known_to_follow_shapes_does_not(op: str) -> None:
    def build(to: Any) -> None:
        add(to, op, "before", "x")
        add(to, "Relu", "y", "before")

    assert not _follows(build)


def test_layers_follow_shapes() -> None:
    def build(to: Any) -> None:
        constants(to, w=np.ones((4, 4)), b=np.ones(4), shape=np.array([-1, 4], np.int32))
        add(to, "Reshape", "flat", "x", "shape")
        add(to, "MatMul", "product", "flat", "w")
        add(to, "BiasAdd", "sum", "product", "b")
        add(to, "Softmax", "y", "sum")

    assert _follows(build)


def test_only_what_is_fetched_counts() -> None:
    def build(to: Any) -> None:
        add(to, "While", "saving", "x")
        add(to, "Relu", "y", "x")

    assert _follows(build)


def test_what_must_run_before_counts() -> None:
    def build(to: Any) -> None:
        add(to, "While", "first", "x")
        add(to, "Relu", "y", "x", "^first")

    assert not _follows(build)


def _called(op: str, *, compiled: bool = False, itself: bool = False) -> Callable[[Any], None]:
    def build(to: Any) -> None:
        function = to.library.function.add()
        function.signature.name = "inner"
        function.signature.input_arg.add(name="a")
        inner = function.node_def.add(op=op, name="r", input=["a"])
        function.ret["out"] = "r:y:0"
        if itself:
            inner.attr["f"].func.name = "inner"
        call = add(to, "PartitionedCall", "y", "x", f="inner")
        call.attr["_XlaMustCompile"].b = compiled

    return build


def test_bodies_of_functions_count() -> None:
    assert _follows(_called("Relu"))
    assert not _follows(_called("While"))
    assert not _follows(_called("Relu", compiled=True))
    assert not _follows(_called("PartitionedCall", itself=True))


def test_size_that_a_function_is_given_is_not_known() -> None:
    def build(to: Any) -> None:
        function = to.library.function.add()
        function.signature.name = "inner"
        function.node_def.add(op="Fill", name="r", input=["dims", "one"])
        function.ret["out"] = "r:y:0"
        add(to, "Shape", "shape", "x")
        add(to, "inner", "y", "shape", "x")

    assert not _follows(build)
