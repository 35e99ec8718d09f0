"""No request ends the process, whatever kernels run it, and a compiled model answers as its export.

Networks of all kinds on shapes of all kinds, each side in a process of its own; and on values that
are no numbers.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.compile.freezer import Freezer
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables import compiled_folder, saved_model
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.tensorflow_c import library
from lambda_serving.servables.tensorflow_c.load_session import load_session
from lambda_serving.servables.tensorflow_c.mapped_weights import assign
from lambda_serving.servables.tensorflow_c.session_function import session_function
from lambda_serving.servables.tensorflow_c.weights_reader import reading
from support.build_convolutions import SIGNATURES
from support.graphs import add, constants, graph, save

_TESTS = Path(__file__).parents[2]
_QUICK_XLA = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # shapes do not depend on it
_FAIL_TWICE = ("recurrent", "transposed")
_VALUES = st.sampled_from([0.0, 1.0, -1.0, 1e-40, -1e-40, np.nan, np.inf, -np.inf])


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("convolutions") / "export"
    subprocess.run(
        [sys.executable, _TESTS / "support/build_convolutions.py", path],
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture(scope="module")
def compiled_dir(export_dir: Path, freezer: Freezer) -> Path:
    """With oneDNN's kernels, also where others have proved quicker."""
    return _frozen(export_dir, freezer, export_dir.with_name("compiled"), onednn=True)


@pytest.fixture(scope="module")
def eigen_dir(export_dir: Path, freezer: Freezer) -> Path:
    """With TensorFlow's own kernels."""
    return _frozen(export_dir, freezer, export_dir.with_name("eigen"), onednn=False)


def _frozen(export_dir: Path, freezer: Freezer, path: Path, *, onednn: bool) -> Path:
    path.mkdir()
    freezer.freeze(export_dir, path, ("serve",), (), lambda _: None, onednn=onednn)
    compiled_folder.mark(path, library.version())
    return path


def _outcomes(path: Path, onednn: str) -> list[Any]:
    """What each run said, without the names of nodes in messages.

    Of two operations that fail at once, either may be told: those networks tell only the code.
    """
    process = subprocess.run(
        [sys.executable, "-m", "support.run_shapes", path],
        cwd=_TESTS,
        env={**os.environ, **_QUICK_XLA, "TF_ENABLE_ONEDNN_OPTS": onednn},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 0, f"ended behind {lines[-1:]}: {process.stderr[-2000:]}"
    return [(*case, "" if case[0] in _FAIL_TWICE else _bare(message)) for *case, message in lines]


def _bare(message: str) -> str:
    said = re.sub(r"\{\{function_node [^}]*\}\} ", "", message)
    return said.partition("{{node")[0].split("\n")[0]


@pytest.fixture(scope="module")
def wanted(export_dir: Path) -> list[Any]:
    return _outcomes(export_dir, "0")


@pytest.mark.parametrize(
    ("side", "onednn"),
    [("export_dir", "1"), ("compiled_dir", "0"), ("compiled_dir", "1"), ("eigen_dir", "0")],
)
def test_odd_shapes_get_the_exports_answer(
    request: pytest.FixtureRequest, wanted: list[Any], side: str, onednn: str
) -> None:
    assert _outcomes(request.getfixturevalue(side), onednn) == wanted


def test_table_has_answers_and_errors_of_every_network(wanted: list[Any]) -> None:
    for name in SIGNATURES:
        outcomes = [outcome for signature, _, outcome, _ in wanted if signature == name]
        assert {type(outcome) for outcome in outcomes} == {str, list}
    messages = {message for *_, message in wanted}
    assert "convolution input must be 4-dimensional: [2]" in messages


@pytest.fixture(scope="module")
def sides(export_dir: Path, compiled_dir: Path) -> Iterator[tuple[Servable, Servable]]:
    with (
        saved_model.load(export_dir, warm_up=False) as export,
        saved_model.load(compiled_dir, warm_up=False) as other,
    ):
        yield export, other


def _inputs(name: str, seed: int) -> Array:
    shape = (2, *(8 if size is None else size for size in SIGNATURES[name]))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", SIGNATURES)
def test_fused_graph_itself_answers_what_it_is_made_for(
    sides: tuple[Servable, Servable], compiled_dir: Path, name: str
) -> None:
    export, other = sides
    session, meta_graph = load_session(
        str(compiled_dir), ("serve",), compiled_folder.without_optimisers(b"")
    )
    with reading(compiled_folder.weights_in(compiled_dir)) as values:
        assign(session, compiled_folder.mapped_files(meta_graph, compiled_dir), values())
    signature = other.signatures[name]
    (got,) = session_function(
        session, [signature.inputs["x"].tensor_name], [signature.outputs["y"].tensor_name]
    )([_inputs(name, 0)], 0)
    session.close()
    wanted = export.run(name, {"x": _inputs(name, 0)})["y"]
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(SIGNATURES)),
    seed=st.integers(0, 2**16),
    values=st.dictionaries(st.integers(0, 2**10), _VALUES, max_size=8),
)
def test_values_that_are_no_numbers_stay(
    sides: tuple[Servable, Servable], name: str, seed: int, values: dict[int, float]
) -> None:
    x = _inputs(name, seed)
    for index, value in values.items():
        x.flat[index % x.size] = value
    wanted, got = (side.run(name, {"x": x})["y"] for side in sides)
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5 * largest)


def test_request_that_is_run_again_takes_one_draw_of_a_seed(
    freezer: Freezer, tmp_path: Path
) -> None:
    """A convolution without rows is answered by a second run, where there is a plain copy."""
    made = graph()
    add(made, "Placeholder", "x", dtype=DType.FLOAT)
    ones = {"filters": np.ones((3, 3, 3, 4), np.float32), "offset": np.ones(4, np.float32)}
    constants(made, **ones, size=np.array([2], np.int32))
    convolution = add(made, "Conv2D", "convolution", "x", "filters", T=DType.FLOAT, padding=b"SAME")
    convolution.attr["strides"].list.i.extend([1, 1, 1, 1])
    add(made, "BiasAdd", "y", "convolution", "offset", T=DType.FLOAT)
    drawn = add(made, "RandomUniform", "drawn", "size", T=DType.INT32, dtype=DType.FLOAT)
    drawn.attr["seed"].i = 3
    outputs = {name: (f"{name}:0", DType.FLOAT) for name in ("y", "drawn")}
    source = tmp_path / "export"
    save(made, source, inputs={"x": ("x:0", DType.FLOAT)}, outputs=outputs)
    path = _frozen(source, freezer, tmp_path / "compiled", onednn=True)
    shapes = [(rows, 8, 8, 3) for rows in (0, 2, 0, 1)]
    with saved_model.load(source) as export, saved_model.load(path) as other:
        wanted, got = (
            [side.run("", {"x": np.zeros(shape, np.float32)})["drawn"].tolist() for shape in shapes]
            for side in (export, other)
        )
    assert got == wanted
