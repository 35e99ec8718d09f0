"""Large constants and variables out of graphs into files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.compile.weights import LEAST_BYTES, map_constants, map_variables
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.compiled_folder import mapped_files
from support.graphs import add, constants, graph, node

_LARGE = np.arange(LEAST_BYTES // 4, dtype=np.float32).reshape(-1, 8)


def _files(made: Any, folder: Path) -> dict[str, Array]:
    """The mapped values of a graph, by the variable's name."""
    meta_graph = protos.message("tensorflow.MetaGraphDef")(graph_def=made).SerializeToString()
    return {
        file.feed.removesuffix("/value"): np.fromfile(file.path, file.dtype.numpy).reshape(
            file.shape
        )
        for file in mapped_files(meta_graph, folder)
    }


def test_large_constant_becomes_the_read_of_a_file(tmp_path: Path) -> None:
    made = graph()
    constants(made, large=_LARGE, small=[1.0])
    assert map_constants(made, tmp_path, []) == _LARGE.nbytes
    read = node(made, "large")
    ((variable, value),) = _files(made, tmp_path).items()
    assert (read.op, list(read.input), read.attr["dtype"].type) == (
        "ReadVariableOp",
        [variable],
        DType.FLOAT,
    )
    assert (value == _LARGE).all()
    assert node(made, "small").op == "Const"
    assert list(node(made, f"{variable}/assign").input) == [variable, f"{variable}/value"]


def test_equal_constants_share_a_file_and_others_do_not(tmp_path: Path) -> None:
    made = graph()
    reshaped = _LARGE.reshape(8, -1)
    constants(made, one=_LARGE, same=_LARGE, other=_LARGE + 1, shape=reshaped)
    constants(made, bits=_LARGE.view(np.int32))
    map_constants(made, tmp_path, [])
    inputs = [node(made, name).input[0] for name in ("one", "same", "other", "shape", "bits")]
    assert inputs[0] == inputs[1]
    assert len(set(inputs)) == len(_files(made, tmp_path)) == 4


def test_graph_reads_a_file_that_another_graph_left_there(tmp_path: Path) -> None:
    for _ in range(2):
        made = graph()
        constants(made, large=_LARGE)
        map_constants(made, tmp_path, [])
        assert len(_files(made, tmp_path)) == 1


def test_constant_that_is_needed_first_or_waits_stays(tmp_path: Path) -> None:
    made = graph()
    constants(made, keys=_LARGE, inside_a_loop=_LARGE)
    add(made, "Switch", "step")
    node(made, "inside_a_loop").input.append("^step")
    add(made, "Table", "filled", "keys")
    words = add(made, "Const", "words", dtype=DType.STRING)
    words.attr["value"].tensor.string_val.append(b"x" * LEAST_BYTES)
    assert map_constants(made, tmp_path, ["filled"]) == 0
    assert {each.op for each in made.node} == {"Const", "Switch", "Table"}
    assert list(tmp_path.iterdir()) == []


def test_constant_that_is_small_as_written_stays(tmp_path: Path) -> None:
    made = graph()
    zeros = add(made, "Const", "zeros", dtype=DType.FLOAT)  # one value for all elements
    zeros.attr["value"].tensor.dtype = DType.FLOAT
    zeros.attr["value"].tensor.tensor_shape.dim.add(size=_LARGE.size)
    zeros.attr["value"].tensor.float_val.append(0.0)
    assert map_constants(made, tmp_path, []) == 0


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.bool_])
def test_variable_that_is_left_gets_its_value_by_a_file(tmp_path: Path, dtype: Any) -> None:
    made = graph()
    add(made, "VarHandleOp", "v")
    add(made, "Enter", "entered", "v", "^v")
    value = np.array([[0, 1]], dtype)
    assert map_variables(made, {"v": value}, tmp_path) == value.nbytes
    ((variable, found),) = _files(made, tmp_path).items()
    assert (found.dtype, found.tolist()) == (value.dtype, value.tolist())
    assert node(made, "entered").input[0] == variable
    assert "v" not in {each.name for each in made.node}
