"""What is asked of graphs, and constants in them."""

from typing import Any

import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.compile import graphs
from lambda_serving.dtypes import DType
from support.graphs import add, constants, graph


@pytest.fixture
def chain() -> Any:
    """`c` and `v` feed `sum`, which `out` takes twice and `late` waits for."""
    made = graph()
    constants(made, c=1.0)
    add(made, "Placeholder", "v")
    add(made, "AddV2", "sum", "c", "v:0", "^gate")
    add(made, "NoOp", "gate")
    add(made, "Mul", "out", "sum", "sum:0")
    add(made, "NoOp", "late", "^sum")
    return made


@pytest.mark.parametrize("tensor", ["x", "x:1", "^x"])
def test_any_form_of_an_input_names_its_node(tensor: str) -> None:
    assert graphs.node_name(tensor) == "x"


def test_inputs_are_tensors_or_an_order(chain: Any) -> None:
    total = chain.node[2]
    assert graphs.data_inputs(total) == ["c", "v:0"]
    assert graphs.control_inputs(total) == ["^gate"]


def test_reachable_goes_back_along_tensors_and_order(chain: Any) -> None:
    assert graphs.reachable(chain, ["out"]) == {"out", "sum", "c", "v", "gate"}
    assert graphs.reachable(chain, ["late", "nowhere"]) == {"late", "sum", "c", "v", "gate"}


def test_prune_keeps_what_is_needed_in_its_order(chain: Any) -> None:
    graphs.prune(chain, ["out"])
    assert [node.name for node in chain.node] == ["c", "v", "sum", "gate", "out"]


def test_consumers_are_listed_once_for_each_use(chain: Any) -> None:
    users = {name: [each.name for each in nodes] for name, nodes in graphs.consumers(chain).items()}
    assert users == {
        "c": ["sum"],
        "v": ["sum"],
        "sum": ["out", "out"],
        "gate": [],
        "out": [],
        "late": [],
    }


def test_nothing_waits_for_what_is_there_anyway() -> None:
    made = graph()
    add(made, "VarHandleOp", "handle")
    add(made, "HashTableV2", "table")
    add(made, "NoOp", "checked")
    add(made, "Const", "inside_a_loop", "^checked")
    add(made, "Identity", "x", "handle", "^handle", "^table", "^checked", "^inside_a_loop")
    graphs.drop_needless_order(made)
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
    assert graphs.add_constant(made, "c", value) == "c"
    assert made.node[0].attr["dtype"].type == DType.of(value.dtype)
    found = graphs.constant(made.node[0])
    assert (found.dtype, found.shape, found.tolist()) == (value.dtype, value.shape, value.tolist())


def test_tensors_of_every_encoding_are_named() -> None:
    info = protos.message("tensorflow.TensorInfo")
    plain, sparse, composite, nothing = info(name="x:0"), info(), info(), info()
    sparse.coo_sparse.values_tensor_name = "v:0"
    sparse.coo_sparse.indices_tensor_name = "i:0"
    sparse.coo_sparse.dense_shape_tensor_name = "s:0"
    composite.composite_tensor.components.extend([plain, sparse])
    assert list(graphs.tensor_names(composite)) == ["x:0", "v:0", "i:0", "s:0"]
    assert list(graphs.tensor_names(nothing)) == []
