"""Questions to graphs."""

from typing import Any

import pytest

from lambda_serving import protos
from lambda_serving.servables.graph_defs import (
    consumers,
    control_inputs,
    data_inputs,
    node_name,
    reachable,
    tensor_names,
)
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
    assert node_name(tensor) == "x"


def test_inputs_are_tensors_or_an_order(chain: Any) -> None:
    total = chain.node[2]
    assert data_inputs(total) == ["c", "v:0"]
    assert control_inputs(total) == ["^gate"]


def test_reachable_goes_back_along_tensors_and_order(chain: Any) -> None:
    assert reachable(chain, ["out"]) == {"out", "sum", "c", "v", "gate"}
    assert reachable(chain, ["late", "nowhere"]) == {"late", "sum", "c", "v", "gate"}


def test_consumers_are_listed_once_for_each_use(chain: Any) -> None:
    users = {name: [each.name for each in nodes] for name, nodes in consumers(chain).items()}
    assert users == {
        "c": ["sum"],
        "v": ["sum"],
        "sum": ["out", "out"],
        "gate": [],
        "out": [],
        "late": [],
    }


def test_tensors_of_every_encoding_are_named() -> None:
    info = protos.message("tensorflow.TensorInfo")
    plain, sparse, composite, nothing = info(name="x:0"), info(), info(), info()
    sparse.coo_sparse.values_tensor_name = "v:0"
    sparse.coo_sparse.indices_tensor_name = "i:0"
    sparse.coo_sparse.dense_shape_tensor_name = "s:0"
    composite.composite_tensor.components.extend([plain, sparse])
    assert list(tensor_names(composite)) == ["x:0", "v:0", "i:0", "s:0"]
    assert list(tensor_names(nothing)) == []
