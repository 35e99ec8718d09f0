"""Which operations count as keeping state."""

from typing import Any

import pytest

from lambda_serving import protos
from lambda_serving.compile.state import remembering
from lambda_serving.dtypes import DType
from support.graphs import add, graph


def _stateful(op: str) -> Any:
    return protos.message("tensorflow.OpDef")(name=op, is_stateful=op != "Identity")


@pytest.mark.parametrize(
    "op",
    [
        "Iterator",
        "OneShotIterator",
        "FIFOQueueV2",
        "InitializeTableFromDataset",
        "InitializeTableV2",
        "MapStage",
        "MutableDenseHashTableV2",
        "MutableHashTable",
        "MysteryOp",
        "GetSessionTensor",
        "LookupTableInsertV2",
        "WriteSummary",
    ],
)
def test_unknown_stateful_operation_may_remember(op: str) -> None:
    made = graph()
    state = add(made, op, "state")
    add(made, "Identity", "out", "state")
    add(made, op, "unused")
    assert remembering(made, ["out"], _stateful, {"state"}) == [state]


@pytest.mark.parametrize(
    "op",
    [
        "AnonymousIteratorV3",
        "AnonymousMutableHashTable",
        "Assert",
        "HashTableV2",
        "RandomUniform",
        "ReadVariableOp",
        "StackV2",
        "TensorArrayV3",
        "TensorSliceDataset",
        "While",
    ],
)
def test_operation_that_forgets_or_is_carried_does_not_remember(op: str) -> None:
    made = graph()
    add(made, op, "state")
    assert remembering(made, ["state"], _stateful, ()) == []


@pytest.mark.parametrize("op", ["MutableHashTableV2", "VarHandleOp", "VariableV2"])
def test_state_that_the_session_can_read_is_carried(op: str) -> None:
    made = graph()
    state = add(made, op, "state")
    assert remembering(made, ["state"], _stateful, {"state"}) == []
    assert remembering(made, ["state"], _stateful, ()) == [state]


@pytest.mark.parametrize(("is_ref", "dtype"), [(True, DType.STRING), (False, DType.RESOURCE)])
def test_operation_that_returns_a_handle_may_remember(is_ref: Any, dtype: DType) -> None:
    made = graph()
    state = add(made, "Custom", "state")
    found = protos.message("tensorflow.OpDef")(name="Custom")
    found.output_arg.add(name="handle", is_ref=is_ref, type=dtype)
    assert remembering(made, ["state"], lambda _: found, {"state"}) == [state]
    found.output_arg[0].is_ref, found.output_arg[0].type = False, DType.FLOAT
    assert remembering(made, ["state"], lambda _: found, ()) == []


def test_functions_are_looked_into_once() -> None:
    made = graph()
    add(made, "StatefulPartitionedCall", "call", f="outer")
    outer = made.library.function.add()
    outer.signature.name = "outer"
    outer.node_def.add(op="StatefulPartitionedCall", name="again").attr["f"].func.name = "outer"
    inside = outer.node_def.add(op="VarHandleOp", name="state")
    assert remembering(made, ["call"], _stateful, {"state"}) == [inside]
