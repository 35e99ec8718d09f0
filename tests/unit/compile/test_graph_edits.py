"""Small changes to graphs, and constants added to them."""

from typing import Any

import numpy as np
import pytest

from lambda_serving.compile.graph_edits import add_constant, drop_needless_order, prune
from lambda_serving.dtypes import DType
from lambda_serving.servables.graph_defs import constant
from support.graphs import add, constants, graph


def test_prune_keeps_what_is_needed_in_its_order() -> None:
    made = graph()
    constants(made, c=1.0)
    add(made, "Add", "sum", "c:0", "^gate")
    add(made, "NoOp", "gate")
    add(made, "Mul", "out", "sum", "sum:0")
    add(made, "NoOp", "late", "^sum")
    prune(made, ["out"])
    assert [node.name for node in made.node] == ["c", "sum", "gate", "out"]


def test_nothing_waits_for_what_is_there_anyway() -> None:
    made = graph()
    add(made, "VarHandleOp", "handle")
    add(made, "HashTableV2", "table")
    add(made, "NoOp", "checked")
    add(made, "Const", "inside_a_loop", "^checked")
    add(made, "Identity", "x", "handle", "^handle", "^table", "^checked", "^inside_a_loop")
    drop_needless_order(made)
    assert list(made.node[-1].input) == ["handle", "^checked", "^inside_a_loop"]
    assert list(made.node[-2].input) == ["^checked"]


@pytest.mark.parametrize(
    "value",
    [
        np.array(1.5, np.float32),
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.zeros((0, 2), np.float16),
        np.array([True, False]),
    ],
)
def test_constant_comes_back_as_it_was_added(value: Any) -> None:
    made = graph()
    assert add_constant(made, "c", value) == "c"
    assert made.node[0].attr["dtype"].type == DType.of(value.dtype)
    found = constant(made.node[0])
    assert (found.dtype, found.shape, found.tolist()) == (value.dtype, value.shape, value.tolist())
