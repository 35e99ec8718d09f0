"""Small graphs of all kinds: compiled, each answers what its export does."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.freezer import Freezer
from lambda_serving.compile.timing import Race
from lambda_serving.dtypes import Array
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable
from support.build_graphs import DTYPES, STEPS

_BUILD_GRAPHS = Path(__file__).parents[2] / "support/build_graphs.py"
_SIGNATURES = st.dictionaries(
    st.sampled_from(["serving_default", "second", "third"]),
    st.lists(st.sampled_from(STEPS), max_size=6),
    min_size=1,
)
Build = Callable[[Path, str, dict[str, list[str]]], None]


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """Writes a SavedModel, by a process that has TensorFlow and stays."""
    with subprocess.Popen(
        [sys.executable, str(_BUILD_GRAPHS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(path: Path, dtype: str, signatures: dict[str, list[str]]) -> None:
            assert process.stdin
            assert process.stdout
            asked = {"path": str(path), "dtype": dtype, "signatures": signatures}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        yield ask
        process.kill()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(dtype=st.sampled_from(DTYPES), signatures=_SIGNATURES, seed=st.integers(0, 2**16))
def test_compiled_graph_answers_as_its_export(
    build: Build, freezer: Freezer, dtype: str, signatures: dict[str, list[str]], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export_dir, compiled_dir = Path(folder, "export"), Path(folder, "compiled")
        build(export_dir, dtype, signatures)
        report = compile_saved_model(
            export_dir, compiled_dir, race=Race(1, 1, lambda _: False), freezer=freezer
        )
        assert report.reason is None
        with saved_model.load(export_dir) as export, saved_model.load(compiled_dir) as compiled:
            _check_alike(export, compiled, np.dtype(dtype), np.random.default_rng(seed))


def _check_alike(
    export: Servable, compiled: Servable, dtype: "np.dtype[np.generic]", random: np.random.Generator
) -> None:
    assert compiled.signatures.keys() == export.signatures.keys()
    for name in export.signatures:
        for rows in (1, 3):
            x: Array = random.integers(-4, 5, (rows, 4)).astype(dtype)
            wanted, got = (side.run(name, {"x": x})["y"] for side in (export, compiled))
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            if dtype.kind == "i":
                assert got.tolist() == wanted.tolist()
            else:
                largest = np.abs(wanted).max(initial=1)
                np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * largest)


@pytest.fixture(scope="module")
def convolution(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with one, for which there are two kinds of kernels."""
    export_dir = tmp_path_factory.mktemp("convolution") / "export"
    build(export_dir, "float32", {"serving_default": ["convolve"]})
    return export_dir


def test_kernels_that_are_slower_than_the_export_give_way_to_others(
    convolution: Path, freezer: Freezer, tmp_path: Path
) -> None:
    verdicts = iter([True, False])
    report = compile_saved_model(
        convolution,
        tmp_path / "1",
        race=Race(1, 1, lambda _: next(verdicts)),
        freezer=freezer,
    )
    assert report.chosen == "Eigen kernels, weights in the graph"
    first, second = report.variants
    assert (first.is_slower, first.has_onednn) == (True, True)
    assert (second.is_slower, second.has_onednn) == (False, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "1.compile.json"]


def test_model_that_compiling_would_slow_down_stays(
    convolution: Path, freezer: Freezer, tmp_path: Path
) -> None:
    report = compile_saved_model(
        convolution, tmp_path / "1", race=Race(1, 1, lambda _: True), freezer=freezer
    )
    first, second = str(report.reason).split("; ")
    assert first.startswith("it would be slower (oneDNN kernels, weights in the graph): start ")
    assert second.startswith("it would be slower (Eigen kernels, weights in the graph): start ")
    assert (report.chosen, report.after) == (None, None)
    copied = (tmp_path / "1/saved_model.pb").read_bytes()
    assert copied == (convolution / "saved_model.pb").read_bytes()
