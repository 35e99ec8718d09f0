"""Runs that fail in a loop: finding the reason never repeats an effect."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_serving.dtypes import DType
from lambda_serving.errors import InvalidArgument, ServingError, Unknown
from lambda_serving.servables.tensorflow_c.load_session import load_session
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.session_function import session_function
from support.graphs import add, constants, graph, save

_INT64 = DType.INT64
_ROUNDS = 5


def _queue(of: Any) -> None:
    add(of, "FIFOQueueV2", "state").attr["component_types"].list.type.append(_INT64)
    add(of, "NoOp", "beginning")
    add(of, "QueueSizeV2", "now", "state")
    _with_types(add(of, "QueueEnqueueV2", "effect", "state", "one"), "Tcomponents", _INT64)


def _variable(of: Any) -> None:
    add(of, "VarHandleOp", "state", dtype=_INT64).attr["shape"].shape.SetInParent()
    add(of, "AssignVariableOp", "beginning", "state", "zero", dtype=_INT64)
    add(of, "ReadVariableOp", "now", "state", dtype=_INT64)


def _own_node(of: Any) -> None:
    _variable(of)
    add(of, "AssignAddVariableOp", "effect", "state", "one", dtype=_INT64)


def _called(of: Any) -> None:
    _variable(of)
    counts = _function(of, "counts", {"r": DType.RESOURCE}, {})
    _count(counts)
    counts.control_ret["counted"] = "counted"
    counts.signature.control_output.append("counted")
    call = add(of, "StatefulPartitionedCall", "effect", "state", f="counts")
    _with_types(call, "Tin", DType.RESOURCE)
    _with_types(call, "Tout")


def _in_the_loop(of: Any) -> None:
    _variable(of)
    add(of, "NoOp", "effect")
    _count(of.library.function[0])
    wrong = next(node for node in of.library.function[0].node_def if node.name == "wrong")
    wrong.input.append("^counted")


def _no_effect(of: Any) -> None:
    _variable(of)
    add(of, "ReadVariableOp", "effect", "state", dtype=_INT64)


def _chance(of: Any) -> None:
    _variable(of)
    constants(of, shape=np.array([2], np.int32))
    add(of, "RandomUniform", "effect", "shape", T=DType.INT32, dtype=DType.FLOAT)


def _function(
    of: Any, name: str, takes: dict[str, DType], gives: dict[str, tuple[DType, str]]
) -> Any:
    made = of.library.function.add()
    made.signature.name = name
    made.signature.is_stateful = True
    for each, dtype in takes.items():
        made.signature.input_arg.add(name=each, type=dtype)
    for each, (dtype, source) in gives.items():
        made.signature.output_arg.add(name=each, type=dtype)
        made.ret[each] = source
    return made


def _count(function: Any) -> None:
    one = function.node_def.add(op="Const", name="once")
    one.attr["dtype"].type = _INT64
    one.attr["value"].tensor.dtype = _INT64
    one.attr["value"].tensor.tensor_shape.SetInParent()
    one.attr["value"].tensor.int64_val.append(1)
    counted = function.node_def.add(
        op="AssignAddVariableOp", name="counted", input=["r", "once:output:0"]
    )
    counted.attr["dtype"].type = _INT64


def _with_types(node: Any, attribute: str, *dtypes: DType) -> None:
    node.attr[attribute].list.type.extend(dtypes)


def _failing(effect: Callable[[Any], None]) -> Any:
    """A graph that fails in the body of a loop, behind or beside an effect, for `x` over 0."""
    made = graph()
    constants(made, one=np.array(1, np.int64), zero=np.array(0, np.int64))
    add(made, "Placeholder", "x", dtype=_INT64)
    types = {"x": _INT64, "r": DType.RESOURCE}
    body = _function(
        made, "body", types, {"y": (_INT64, "wrong:output:0"), "s": (DType.RESOURCE, "r")}
    )
    wrong = body.node_def.add(op="Reshape", name="wrong", input=["x", "shape:output:0"])
    wrong.attr["T"].type, wrong.attr["Tshape"].type = _INT64, DType.INT32
    shape = body.node_def.add(op="Const", name="shape")
    shape.attr["dtype"].type = shape.attr["value"].tensor.dtype = DType.INT32
    shape.attr["value"].tensor.tensor_shape.dim.add(size=1)
    shape.attr["value"].tensor.int_val.append(3)
    condition = _function(made, "condition", types, {"b": (DType.BOOL, "same:z:0")})
    same = condition.node_def.add(op="Equal", name="same", input=["x", "x"])
    same.attr["T"].type = _INT64
    effect(made)
    add(made, "Identity", "begun", "zero", "^beginning", T=_INT64)
    add(made, "Identity", "fed", "x", "^effect", T=_INT64)
    loop = add(made, "While", "loop", "fed", "state", cond="condition", body="body")
    _with_types(loop, "T", _INT64, DType.RESOURCE)
    add(made, "Identity", "y", "loop", T=_INT64)
    return made


@contextmanager
def _session(made: Any, folder: Path) -> Iterator[Session]:
    ends = {"inputs": {"x": ("x:0", _INT64)}, "outputs": {"y": ("y:0", _INT64)}}
    save(made, folder, **ends)
    session, _ = load_session(str(folder), ["serve"])
    try:
        yield session
    finally:
        session.close()


@pytest.mark.parametrize(
    ("effect", "counts", "errors"),
    [
        (_queue, 1, (Unknown, InvalidArgument)),
        (_own_node, 1, (Unknown, InvalidArgument)),
        (_called, 1, (Unknown, InvalidArgument)),
        (_in_the_loop, 1, (Unknown, InvalidArgument)),
        (_no_effect, 0, (InvalidArgument,)),
        (_chance, 0, (InvalidArgument,)),
    ],
)
def test_failing_loop_has_each_effect_once(
    tmp_path: Path,
    effect: Callable[[Any], None],
    counts: int,
    errors: tuple[type[ServingError], ...],
) -> None:
    with _session(_failing(effect), tmp_path / "1") as session:
        session_function(session, [], ["begun:0"])([], 0)
        fails = session_function(session, ["x:0"], ["y:0"])
        now = session_function(session, [], ["now:0"])
        for before in range(_ROUNDS):
            assert now([], 0)[0] == before * counts
            with pytest.raises(errors):
                fails([np.array(1, np.int64)], 0)
