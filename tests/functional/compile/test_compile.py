"""Exports to compiled servables: what they answer, what their folders hold, what goes wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import psutil
import pytest

from lambda_serving import protos
from lambda_serving.compile import NotCompilable
from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.freezer import Freezer
from lambda_serving.compile.report import report_path
from lambda_serving.compile.timing import Race
from lambda_serving.dtypes import Array
from lambda_serving.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ServingError,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.push import push
from lambda_serving.servables import saved_model
from lambda_serving.servables.compiled_folder import MARKER, mapped_files, mark
from lambda_serving.servables.tensorflow_c import library
from lambda_serving.servables.tensorflow_c.load_session import load_session
from lambda_serving.servables.tensorflow_c.mapped_weights import MappedFile, assign, map_files
from lambda_serving.store import LocalStore
from lambda_serving.store.local_push_target import LocalVersion
from support.answers import ANSWERS
from support.server_process import COMMAND, MNIST


def _flip_last_bit(path: Path) -> None:
    *others, last = path.read_bytes()
    path.write_bytes(bytes([*others, last ^ 1]))


_STAYS = {
    "counter/1": (
        "it changes its variables as it answers: AssignAddVariableOp"
        " (StatefulPartitionedCall/StatefulPartitionedCall/AssignAddVariableOp)"
    ),
    "references/1": (
        "it changes its variables as it answers: Assign (Assign), AssignAdd (AssignAdd),"
        " AssignAdd (AssignAdd_1)"
    ),
}


@pytest.mark.parametrize(("model", "signature", "inputs", "outputs"), ANSWERS)
def test_compiled_model_answers_what_the_export_computes(
    compiled_dir: Path,
    model: str,
    signature: str,
    inputs: dict[str, Array],
    outputs: dict[str, object],
) -> None:
    with saved_model.load(compiled_dir / model) as servable:
        answer = servable.run(signature, inputs)
    assert {name: array.tolist() for name, array in answer.items()} == outputs


def test_every_export_is_compiled_but_those_that_cannot_be(
    models_dir: Path, compiled_dir: Path
) -> None:
    exports = sorted(str(path.relative_to(models_dir)) for path in models_dir.glob("*/*"))
    reasons = {name: _report(compiled_dir / name)["reason"] for name in exports}
    assert {name: reason for name, reason in reasons.items() if reason} == _STAYS
    for name in exports:
        assert (compiled_dir / name / MARKER).exists() is (name not in _STAYS)


def test_signatures_are_those_of_the_export(models_dir: Path, compiled_dir: Path) -> None:
    for export_dir in sorted(models_dir.glob("*/*")):
        with (
            saved_model.load(export_dir, warm_up=False, cache=models_dir.parent) as export,
            saved_model.load(
                compiled_dir / export_dir.relative_to(models_dir), warm_up=False
            ) as compiled,
        ):
            assert compiled.signatures.keys() == export.signatures.keys()
            for name, signature in compiled.signatures.items():
                assert signature.inputs == export.signatures[name].inputs
                assert signature.method_name == export.signatures[name].method_name


def _report(folder: Path) -> Any:
    return json.loads(report_path(folder).read_text())


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("model", "files"),
    [
        ("warmed/1", ["assets.extra/tf_serving_warmup_requests"]),
        ("vocabulary/1", ["assets/words.txt"]),
        ("shared_weights/1", ["weights/DIGEST"]),
    ],
)
def test_folder_holds_graph_marker_and_what_the_export_had_beside(
    compiled_dir: Path, model: str, files: list[str]
) -> None:
    folder = compiled_dir / model
    found = [re.sub("^weights/[0-9a-f]{32}$", "weights/DIGEST", name) for name in _files(folder)]
    assert sorted(found) == sorted(["fingerprint.pb", "saved_model.pb", MARKER, *files])


@pytest.mark.parametrize("model", ["shared_weights", "examples", "loop_over_variable"])
def test_same_export_compiles_to_the_same_bytes(
    models_dir: Path, compiled_dir: Path, freezer: Freezer, tmp_path: Path, model: str
) -> None:
    compile_saved_model(
        models_dir / model / "1",
        tmp_path / "1",
        race=Race(1, 1, lambda _: False),
        freezer=freezer,
    )
    assert _files(tmp_path / "1") == _files(compiled_dir / model / "1")


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        ("shared_weights", {"x": np.ones((1, 128), np.float32)}, {"y": [[2.0] * 128]}),
        ("vocabulary", {"words": np.array([b"c"], object)}, {"ids": [2]}),
    ],
)
def test_folder_may_be_moved(
    compiled_dir: Path, tmp_path: Path, model: str, inputs: Any, outputs: Any
) -> None:
    moved = tmp_path / "elsewhere" / "9"
    shutil.copytree(compiled_dir / model / "1", moved)
    with saved_model.load(moved) as servable:
        answer = servable.run("", inputs)
    assert {name: array.tolist() for name, array in answer.items()} == outputs


def _mapped(folder: Path) -> list[str]:
    """The access that this process has to each mapped file of a folder."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[1] for line in maps if f"{folder}/weights/" in line]


def _weights(folder: Path) -> list[MappedFile]:
    model = protos.message("tensorflow.SavedModel")()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    return mapped_files(model.meta_graphs[0].SerializeToString(), folder)


def test_weights_that_nobody_writes_are_mapped_until_the_session_ends(
    compiled_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(compiled_dir / "shared_weights" / "1", tmp_path / "1")
    session, _ = load_session(str(folder), ["serve"])
    assign(session, _weights(folder), map_files(_weights(folder)))
    assert _mapped(folder) == ["r--s"]
    session.close()
    assert _mapped(folder) == []


def test_weights_that_somebody_may_write_are_copied(compiled_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(compiled_dir / "shared_weights" / "1", tmp_path / "1")
    with saved_model.load(folder, files_stay=True):  # so a function says, wherever it runs
        assert _mapped(folder) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "overwritten", "removed"],
)
def test_files_that_are_spoilt_later_do_not_matter_to_a_servable(
    compiled_dir: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    folder = shutil.copytree(compiled_dir / "shared_weights" / "1", tmp_path / "1")
    inputs = {"x": np.ones((1, 128), np.float32)}
    with saved_model.load(folder) as servable:  # which has not read its weights yet
        for path in filter(Path.is_file, [*folder.rglob("*")]):
            spoil(path)
        assert servable.run("", inputs)["y"].tolist() == [[2.0] * 128]


def test_report_tells_before_and_after(compiled_dir: Path) -> None:
    report = _report(compiled_dir / "shared_weights" / "1")
    assert report["state"] == "compiled"
    assert report["frozen"]["frozen_bytes"] == report["frozen"]["mapped_bytes"] == 128 * 128 * 4
    assert report["frozen"]["nodes_after"] < report["frozen"]["nodes_before"]
    check = {"compared": 7, "refused": 0, "refusal": "", "largest_error": 0.0, "unstable": []}
    assert report["chosen"] == "Eigen kernels, weights in files"
    assert [each["timing"]["warm"]["after"] for each in report["variants"]] == [
        report["after"]["warm"]
    ]
    assert report["checks"] == {"serving_default": check, "twice": check}
    for side in ("before", "after"):
        assert all(report[side][key] > 0 for key in ("bytes", "load", "first", "warm"))
    assert list(report["seconds"]) == [
        "loading the export",
        "starting TensorFlow",
        "restoring variables",
        "inlining functions",
        "freezing variables",
        "optimising",
        "mapping weights",
        "comparing answers",
        "measuring",
    ]


@pytest.mark.parametrize(
    ("model", "signature", "check"),
    [
        ("dice", "serving_default", {"unstable": ["y"], "compared": 7}),
        ("positive", "serving_default", {"refused": 5, "compared": 2}),
        ("warmup_fails", "serving_default", {"refused": 1, "compared": 7}),
        ("warmed", "classify_x_to_y", {"refused": 0, "compared": 4}),
        ("examples", "echo_query", {"refused": 0, "compared": 3}),
    ],
)
def test_report_tells_what_was_compared(
    compiled_dir: Path, model: str, signature: str, check: dict[str, Any]
) -> None:
    found = _report(compiled_dir / model / "1")["checks"][signature]
    assert {key: found[key] for key in check} == check


def test_variable_that_a_loop_reads_is_mapped(compiled_dir: Path) -> None:
    frozen = _report(compiled_dir / "loop_over_variable" / "1")["frozen"]
    assert (frozen["frozen_bytes"], frozen["mapped_bytes"]) == (0, 128 * 128 * 4)
    assert frozen["left_out"] == [
        "Variable is too large for a constant, or not read as a whole, and stays a variable"
    ]


_FREEZE_LITTLE = """
import sys
from pathlib import Path

from lambda_serving.compile.compiled_graph import compiled_graph

print(compiled_graph(Path(sys.argv[1]), Path(sys.argv[2]), ["serve"], most_constant_bytes=30))
"""


def test_variables_beyond_what_a_graph_can_hold_are_mapped(
    models_dir: Path, tmp_path: Path
) -> None:
    """As with some GiB of variables: the small ones are frozen, the others stay variables."""
    subprocess.run(
        [sys.executable, "-c", _FREEZE_LITTLE, models_dir / "keras3_export" / "1", tmp_path],
        check=True,
    )
    mark(tmp_path, library.version())
    weights = list((tmp_path / "weights").iterdir())
    assert sum(path.stat().st_size for path in weights) > 0
    with saved_model.load(tmp_path) as servable:
        answer = servable.run("", {"inputs": np.array([[1, 2, 3, 4]], np.float32)})
    assert answer["output_0"].tolist() == [[34.0, 34.0]]


def _kill_forks(stage: str) -> None:
    if stage == "restoring variables":
        for each in psutil.Process().children(recursive=True):
            if "lambda_serving.compile.freezer_process" in each.cmdline() and not each.children():
                each.kill()


def test_graph_that_fails_and_one_that_ends_its_process_do_not_matter_to_the_next(
    models_dir: Path, freezer: Freezer, tmp_path: Path
) -> None:
    bare, stuck, out = (tmp_path / name for name in ("bare", "stuck", "out"))
    for folder in (bare, stuck, out):
        folder.mkdir()
    shutil.copy(models_dir / "shared_weights/1/saved_model.pb", bare)  # and not its variables
    os.mkfifo(stuck / "saved_model.pb")  # of which TensorFlow reads while nobody writes
    with pytest.raises(
        NotCompilable, match="TensorFlow failed while restoring variables"
    ) as failed:
        freezer.freeze(bare, out, ["serve"], [], lambda _: None)
    with pytest.raises(
        NotCompilable, match="its process was killed, as happens when memory"
    ) as killed:
        freezer.freeze(stuck, out, ["serve"], [], _kill_forks)
    assert ["variables" in each.value.details for each in (failed, killed)] == [True, False]
    freezer.freeze(models_dir / "dense/1", out, ["serve"], [], lambda _: None)
    assert (out / "saved_model.pb").stat().st_size


def test_assertions_of_the_export_still_refuse(compiled_dir: Path) -> None:
    with (
        saved_model.load(compiled_dir / "positive" / "1") as servable,
        pytest.raises(InvalidArgument, match="positive numbers only"),
    ):
        servable.run("", {"x": np.array([-1], np.float32)})


def test_model_that_stays_is_copied_and_serves(models_dir: Path, compiled_dir: Path) -> None:
    stayed = compiled_dir / "counter" / "1"
    assert _files(stayed) == _files(models_dir / "counter" / "1")
    report = _report(stayed)
    assert (report["state"], report["after"], report["frozen"]) == ("left as it is", None, None)
    with saved_model.load(stayed) as servable:
        answers = [servable.run("", {"x": np.zeros(1, np.float32)})["y"][0] for _ in range(2)]
    assert answers == [1.0, 2.0]


def _spoil_op(folder: Path) -> None:
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"MatMux"))


_SPOILS: list[tuple[Callable[[Path], object], type[ServingError], str]] = [
    (
        lambda folder: (folder / "saved_model.pb").unlink(),
        NotFound,
        "{source} holds no SavedModel: there is no saved_model.pb in it",
    ),
    (
        lambda folder: (folder / "saved_model.pb").write_bytes(b"\xff"),
        OutOfRange,
        "Read less bytes than requested: saved_model.pb is cut short or is not a SavedModel",
    ),
    (
        lambda folder: (folder / "variables/variables.data-00000-of-00001").unlink(),
        NotFound,
        "{source}/variables/variables.data-00000-of-00001; No such file or directory",
    ),
    (
        lambda folder: shutil.rmtree(folder / "variables"),
        DataLoss,
        "variables/variables.index is missing, but the graph reads 1 variables",
    ),
    (_spoil_op, NotFound, "Op type not registered 'MatMux'"),
    (_spoil_op, NotFound, "Name the library of this custom op in --op_libraries"),
    (
        lambda folder: mark(folder, "2.21.0"),
        InvalidArgument,
        "{source} is compiled already. Compile its export instead",
    ),
]


@pytest.mark.parametrize(("spoil", "error", "message"), _SPOILS)
def test_export_that_does_not_load_is_refused_and_nothing_is_written(
    models_dir: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    error: type[ServingError],
    message: str,
) -> None:
    source = tmp_path / "export"
    shutil.copytree(models_dir / "shared_weights" / "1", source)
    spoil(source)
    with pytest.raises(ServingError) as raised:
        compile_saved_model(source, tmp_path / "out" / "1")
    assert type(raised.value) is error
    assert message.format(source=source) in str(raised.value)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_wrong_tags_are_reported(models_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="meta graph def matching supplied tags: { gpu }"):
        compile_saved_model(models_dir / "dense" / "1", tmp_path / "1", tags=["gpu"])


def test_destination_that_exists_is_left_alone(models_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AlreadyExists) as raised:
        compile_saved_model(models_dir / "dense" / "1", tmp_path)
    assert str(raised.value) == f"{tmp_path} exists already. Remove it, or choose another folder"


def test_destination_that_cannot_be_written_is_reported(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"Could not write .*/file/1: (Not a|File exists)"):
        compile_saved_model(models_dir / "dense" / "1", tmp_path / "file" / "1")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "Could not read {path}: No such file or directory"),
        (
            lambda path: path.write_bytes(b"short"),
            "{path} has 5 bytes, its tensor 65536: copy it again",
        ),
        (
            lambda path: path.write_bytes(bytes(path.stat().st_size)),
            "{path} does not match the digest in its name",
        ),
        (_flip_last_bit, "{path} does not match the digest in its name"),
    ],
)
def test_weights_that_are_not_whole_are_reported(
    compiled_dir: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    shutil.copytree(compiled_dir / "shared_weights" / "1", tmp_path / "1")
    (path,) = (tmp_path / "1" / "weights").iterdir()
    spoil(path)
    with pytest.raises(DataLoss) as raised:
        saved_model.load(tmp_path / "1")
    assert message.format(path=path) in str(raised.value)


def test_servable_compiled_for_another_tensorflow_is_reported(
    compiled_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(compiled_dir / "dense" / "1", tmp_path / "1")
    mark(tmp_path / "1", "1.15.0")
    with pytest.raises(FailedPrecondition, match=r"It was compiled for TensorFlow 1\.15\.0"):
        saved_model.load(tmp_path / "1")


def _start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, "compile", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_interrupted_compilation_leaves_no_version(
    models_dir: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    process = _start(models_dir / "dense" / "1", out / "1")
    deadline, pause = monotonic() + 300, threading.Event()
    while not (out.exists() and list(out.iterdir())):  # it has begun to write
        assert monotonic() < deadline
        pause.wait(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, "Traceback" in said) == (code, False)
    left = [path.name for path in out.iterdir()]
    assert left == [] if number != signal.SIGKILL else all(name.startswith(".1-") for name in left)


def test_disk_that_takes_no_more_is_told_and_nothing_is_left(
    models_dir: Path, tmp_path: Path
) -> None:
    source, out = models_dir / "shared_weights" / "1", tmp_path / "out"
    limited = 'ulimit -f 32; exec "$0" "$@"'  # KiB of a file; its weights have 64
    ended = subprocess.run(
        ["/bin/bash", "-c", limited, COMMAND, "compile", source, out / "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert f"Error: Could not write {out}/1: File too large" in ended.stderr
    assert list(out.iterdir()) == []


def test_command_compiles_every_version_of_a_base_path(models_dir: Path, tmp_path: Path) -> None:
    process = _start(models_dir / "two_versions", tmp_path / "out")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    for version, answer in (("1", 3.0), ("2", 4.0)):
        with saved_model.load(tmp_path / "out" / version) as servable:
            assert servable.run("", {"x": np.array([2], np.float32)})["y"].tolist() == [answer]
        folder = tmp_path / "out" / version
        if _report(folder)["state"] == "compiled":
            assert f"{folder}: compiled in " in " ".join(said.split())
            assert "largest error" in said
        else:  # on a busy machine, a small graph may look slower
            assert f"{folder}: left as it is, because it would be slower" in " ".join(said.split())
    reason = "LiteRT does not have the operation ParseExampleV2"
    assert said.count(f"Runtime: tensorflow, because {reason}\n") == 2


def test_command_says_what_stays_as_it_is(models_dir: Path, tmp_path: Path) -> None:
    process = _start("--runtime=tensorflow", models_dir / "counter" / "1", tmp_path / "1")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    told = f"{tmp_path}/1: left as it is, because {_STAYS['counter/1']}"
    assert " ".join(said.split()) == told


def test_command_tells_of_stages_that_last(tmp_path: Path) -> None:
    source = MNIST / "saved_with_signature" / "1"
    process = _start("--runtime=litert", source, tmp_path / "1")
    said, told = process.communicate(timeout=300)
    assert process.returncode == 0
    assert said.split()[:3] == [f"{tmp_path}/1:", "compiled", "in"]
    assert "Runtime: litert, because it was asked for\n" in said
    assert re.search(r"│ warm answer to 8 rows +│ [0-9.]+ ms +│ [0-9.]+ ms +│", said)
    assert re.search(r"/1: \w.* \(\d+ s\)\n", told)  # Python TensorFlow alone takes seconds


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere", "out"], "Error: nowhere does not exist. Correct the path"),
        ([".", "."], "neither saved_model.pb nor folders whose names are numbers"),
    ],
)
def test_command_tells_what_went_wrong(arguments: list[str], reason: str) -> None:
    process = _start(*arguments)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, "Traceback" in said) == (1, False)
    assert reason in said


def test_pushed_version_compiles_to_one_that_is_served(
    models_dir: Path, freezer: Freezer, tmp_path: Path
) -> None:
    push(models_dir / "two_versions/2", LocalVersion(tmp_path / "pushed/2"))
    compile_saved_model(tmp_path / "pushed/2", tmp_path / "compiled/2", freezer=freezer)
    store = LocalStore({"half": str(tmp_path / "compiled")})
    with saved_model.load(store.fetch(ServableId("half", 2))) as servable:
        assert servable.run("", {"x": np.array([2], np.float32)})["y"].tolist() == [4.0]


def test_old_variables_and_their_table_are_frozen(compiled_dir: Path) -> None:
    model = protos.message("tensorflow.SavedModel").FromString(
        (compiled_dir / "tf1/1/saved_model.pb").read_bytes()
    )
    (meta_graph,) = model.meta_graphs
    assert {node.op for node in meta_graph.graph_def.node} & {"Variable", "VariableV2"} == set()
    assert [asset.filename for asset in meta_graph.asset_file_def] == ["words.txt"]
