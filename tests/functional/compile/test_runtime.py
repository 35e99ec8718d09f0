"""Exports compiled for LiteRT: what they answer, what stays on TensorFlow, and why."""

import json
import signal
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
import psutil
import pytest

from lambda_serving import protos
from lambda_serving.compile import NotCompilable
from lambda_serving.compile.apart import Apart, Served
from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.freezer import Freezer
from lambda_serving.compile.report import Report, report_path
from lambda_serving.compile.runtimes import AUTO, LITERT, TENSORFLOW, choose
from lambda_serving.compile.timing import Race
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DataLoss, FailedPrecondition, InvalidArgument
from lambda_serving.servables import saved_model
from lambda_serving.servables.litert.compiled_folder import compiled_with, exported, mark
from support import graphs
from support.answers import ANSWERS
from support.tflite_files import custom_operation, edited, without_operations

_ONCE = Race(1, 1, lambda _: False)
_Y = {"y": ("y:0", DType.FLOAT)}
_MODELS = ("keras3_export/1", "no_default/1", "tf1/1", "warmup_fails/1")


def _compile(source: Path, target: Path, freezer: Freezer, runtime: str) -> Report:
    return compile_saved_model(source, target, race=_ONCE, freezer=freezer, runtime=runtime)


@pytest.fixture(scope="module")
def compiled(models_dir: Path, freezer: Freezer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the table, compiled for LiteRT."""
    folder = tmp_path_factory.mktemp("litert")
    for name in _MODELS:
        _compile(models_dir / name, folder / name, freezer, LITERT)
    return folder


def _report(folder: Path) -> Any:
    return json.loads(report_path(folder).read_text())


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("model", "signature", "inputs", "outputs"),
    [answer for answer in ANSWERS if answer[0] in _MODELS],
)
def test_compiled_model_answers_what_the_export_computes(
    compiled: Path,
    model: str,
    signature: str,
    inputs: dict[str, Array],
    outputs: dict[str, object],
) -> None:
    with saved_model.load(compiled / model, warm_up=False) as servable:
        answer = servable.run(signature, inputs)
    assert {name: array.tolist() for name, array in answer.items()} == outputs


@pytest.mark.parametrize("model", _MODELS)
def test_signatures_and_metadata_are_those_of_the_export(
    models_dir: Path, compiled: Path, model: str
) -> None:
    with (
        saved_model.load(models_dir / model, warm_up=False) as export,
        saved_model.load(compiled / model, warm_up=False) as found,
    ):
        assert dict(found.definitions) == dict(export.definitions)
        assert found.signatures == export.signatures
        assert found.problems == export.problems


def test_folder_holds_the_model_its_mark_and_what_the_export_had_extra(compiled: Path) -> None:
    extra = ["assets.extra/compiled.json", "assets.extra/signatures.pb"]
    warm_up = "assets.extra/tf_serving_warmup_requests"
    assert _files(compiled / "tf1/1") == [*extra, "model.tflite"]
    assert _files(compiled / "warmup_fails/1") == [*extra, warm_up, "model.tflite"]
    assert compiled_with(compiled / "tf1/1") == ai_edge_litert.__version__
    with pytest.raises(InvalidArgument, match="Warm-up record 0"):
        saved_model.load(compiled / "warmup_fails/1")


def test_signatures_that_the_converter_merged_are_served(compiled: Path) -> None:
    """Keras 3 exports one function as `serve` and as `serving_default`."""
    found = exported(compiled / "keras3_export/1")
    assert found
    assert found.aliases == {"serve": "serving_default"}


def test_report_tells_the_runtime_and_what_both_cost(compiled: Path) -> None:
    report = _report(compiled / "tf1/1")
    runtime = report["runtime"]
    assert (report["state"], report["chosen"]) == ("compiled", "LiteRT")
    assert (runtime["name"], runtime["reason"]) == (LITERT, "it was asked for")
    assert sorted(runtime["costs"]) == [LITERT, TENSORFLOW]
    for cost in runtime["costs"].values():
        assert all(value > 0 for value in cost.values())
    assert report["checks"]["lookup"]["compared"] == 4
    assert list(report["seconds"]) == [
        "loading the export",
        "starting TensorFlow",
        "converting for LiteRT",
        "comparing answers of LiteRT",
        "measuring both runtimes",
    ]


_STAYS = {
    "two_versions/1": "LiteRT does not have the operation ParseExampleV2",
    "vocabulary/1": (
        "answers of LiteRT would differ: signature serving_default: an answer became the error"
        " 'LiteRT could not run the model: hashtable need to be initialized before using. Node"
        " number 1 (HASHTABLE_FIND) failed to invoke'"
    ),
    "counter/1": "it changes its variables as it answers, which LiteRT may forget",
    "shapes/1": (
        "answers of LiteRT would differ: signature empty_batch, output y: float32 of shape (0,)"
        " became float32 of shape (1,)"
    ),
    "every_dtype/1": (
        "TensorFlow's converter fails: Output 0 of node 'variable' has a reference type float_ref"
    ),
}


@pytest.mark.parametrize("model", _STAYS)
def test_model_that_litert_cannot_serve_is_refused_and_nothing_is_written(
    models_dir: Path, freezer: Freezer, tmp_path: Path, model: str
) -> None:
    with pytest.raises(FailedPrecondition) as raised:
        _compile(models_dir / model, tmp_path / "out/1", freezer, LITERT)
    assert str(raised.value) == (
        f"{models_dir / model} cannot be compiled for LiteRT, because {_STAYS[model]}. Compile it"
        " with --runtime=tensorflow, or with auto"
    )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("model", ["two_versions/1", "counter/1"])
def test_auto_leaves_it_on_tensorflow(
    models_dir: Path, freezer: Freezer, tmp_path: Path, model: str
) -> None:
    report = _compile(models_dir / model, tmp_path / "1", freezer, AUTO)
    assert (report.runtime.name, report.runtime.reason) == (TENSORFLOW, _STAYS[model])
    assert not report.runtime.costs
    assert (tmp_path / "1/saved_model.pb").exists()
    assert not (tmp_path / "1/model.tflite").exists()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "1", tmp_path / "1.compile.json"]


def test_auto_writes_what_is_better(models_dir: Path, freezer: Freezer, tmp_path: Path) -> None:
    report = _compile(models_dir / "no_default/1", tmp_path / "1", freezer, AUTO)
    assert report.runtime == choose(report.runtime.costs)
    by_litert = report.runtime.name == LITERT  # as on any machine that is not too busy
    assert (tmp_path / "1/model.tflite").exists() is by_litert
    assert (tmp_path / "1/saved_model.pb").exists() is not by_litert
    assert report.variants
    assert sorted(tmp_path.iterdir()) == [tmp_path / "1", tmp_path / "1.compile.json"]


def test_folder_for_litert_is_not_compiled_again(compiled: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="is compiled already. Compile its export instead"):
        compile_saved_model(compiled / "tf1/1", tmp_path / "1")


def test_file_that_is_not_of_the_export_is_refused(
    compiled: Path, tflite_dir: Path, tmp_path: Path
) -> None:
    other = tflite_dir / "identity_int32/1/model.tflite"
    (tmp_path / "model.tflite").write_bytes(other.read_bytes())
    mark(tmp_path, "2.3.0", exported(compiled / "warmup_fails/1"))
    with pytest.raises(
        FailedPrecondition,
        match=r"signature 'serving_default' has the inputs x \(int32, any shape\) and the outputs y"
        r" \(int32\), and that of the export has the inputs x \(float, \[any, 4\]\)",
    ):
        saved_model.load(tmp_path)
    (tmp_path / "assets.extra/signatures.pb").write_bytes(b"\xff")
    with pytest.raises(DataLoss, match=r"signatures\.pb is damaged\. Compile the export again"):
        saved_model.load(tmp_path)


def test_file_that_ends_its_process_ends_no_compilation(tflite_dir: Path, tmp_path: Path) -> None:
    half = (tflite_dir / "half_plus_two/123/model.tflite").read_bytes()
    inputs = {"serving_default": [{"x": np.array([2], np.float32)}]}
    (tmp_path / "model.tflite").write_bytes(edited(half, without_operations))
    with (
        Apart(Served(tmp_path, LITERT)) as apart,
        pytest.raises(NotCompilable, match="LiteRT ended the process that served it by signal"),
    ):
        apart.answers(inputs)
    (tmp_path / "model.tflite").write_bytes(edited(half, custom_operation("Mystery")))
    with (
        Apart(Served(tmp_path, LITERT)) as apart,
        pytest.raises(FailedPrecondition, match="needs the operation Mystery"),
    ):
        apart.start("serving_default", inputs["serving_default"][0])


def test_process_ends_if_it_is_killed_or_late(tflite_dir: Path) -> None:
    inputs = {"x": np.array([2], np.float32)}
    for number, told in (
        (signal.SIGKILL, "LiteRT ended the process that served it by signal 9"),
        (signal.SIGALRM, "LiteRT did not answer within 300 seconds"),
    ):
        with Apart(Served(tflite_dir / "half_plus_two/123", LITERT)) as apart:
            assert apart.start("serving_default", inputs) > 0
            [child] = [
                each
                for each in psutil.Process().children()
                if "lambda_serving.compile.apart" in each.cmdline()
            ]
            child.send_signal(number)
            with pytest.raises(NotCompilable, match=told):
                apart.peak_mb()


def test_signature_that_answers_no_sample_is_no_reason_for_litert(
    freezer: Freezer, tmp_path: Path
) -> None:
    """LiteRT may refuse the same inputs for a reason of its own."""
    graph = graphs.graph()
    graphs.add(graph, "Placeholder", "x", dtype=DType.FLOAT)
    graphs.constants(graph, shape=np.array([5], np.int32))
    graphs.add(graph, "Reshape", "y", "x", "shape", T=DType.FLOAT, Tshape=DType.INT32)
    graphs.save(graph, tmp_path / "export", inputs={"x": ("x:0", DType.FLOAT)}, outputs=_Y)
    report = _compile(tmp_path / "export", tmp_path / "1", freezer, AUTO)
    assert report.runtime.reason == (
        "answers of its signature serving_default cannot be compared: it failed on all 11 inputs"
        " that were tried. Add warm-up requests to the export: they are tried too"
    )


def _shape(*sizes: int) -> Any:
    shape = protos.message("tensorflow.TensorShapeProto")()
    for size in sizes:
        shape.dim.add(size=size)
    return shape


def _save_max_pool(folder: Path) -> None:
    """The largest of each 3 by 3 values, of images of 8 by 8."""
    shape, smaller = _shape(-1, 8, 8, 1), _shape(-1, 6, 6, 1)
    graph = graphs.graph()
    graphs.add(graph, "Placeholder", "x", dtype=DType.FLOAT).attr["shape"].shape.CopyFrom(shape)
    pool = graphs.add(graph, "MaxPool", "y", "x", T=DType.FLOAT, padding=b"VALID")
    pool.attr["ksize"].list.i.extend((1, 3, 3, 1))
    pool.attr["strides"].list.i.extend((1, 1, 1, 1))
    graphs.save(graph, folder, inputs={"x": ("x:0", DType.FLOAT)}, outputs=_Y)
    path = folder / "saved_model.pb"
    saved = protos.message("tensorflow.SavedModel").FromString(path.read_bytes())
    definition = saved.meta_graphs[0].signature_def["serving_default"]
    definition.inputs["x"].tensor_shape.CopyFrom(shape)
    definition.outputs["y"].tensor_shape.CopyFrom(smaller)
    path.write_bytes(saved.SerializeToString())


def test_nan_is_answered_as_the_export_does(freezer: Freezer, tmp_path: Path) -> None:
    """TensorFlow's pool takes the largest of the other values, and XNNPACK's keeps NaN."""
    export, folder = tmp_path / "export", tmp_path / "1"
    _save_max_pool(export)
    report = _compile(export, folder, freezer, LITERT)
    assert report.runtime.plain_for_nan
    assert report.checks["serving_default"].compared == 11
    numbers = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    with (
        saved_model.load(export, warm_up=False) as wanted,
        saved_model.load(folder, warm_up=False) as found,
    ):
        for place in (None, 0, 27, 63, slice(None)):
            x = numbers.copy()
            if place is not None:
                x.flat[place] = np.nan
            [want], [got] = (
                each.run("serving_default", {"x": x}).values() for each in (wanted, found)
            )
            np.testing.assert_array_equal(got, want)
