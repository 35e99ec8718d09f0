"""Compiling in a process of its own: what it may know, how it ends, what it says."""

import json
import os
import signal
import subprocess
import textwrap
from pathlib import Path

import psutil
import pytest

from lambda_serving import protos
from lambda_serving.compile.isolated import Outcome, compile_apart
from lambda_serving.compile.report import report_path
from lambda_serving.compile.runtimes import LITERT
from lambda_serving.dtypes import DType
from lambda_serving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    ServingError,
)
from lambda_serving.servables import compiled_folder
from support import graphs


def _reading_at_start(folder: Path, source: str, target: Path) -> Path:
    """A SavedModel that copies a file of this machine when it is loaded."""
    graph = graphs.graph()
    for name, value in (("source", source), ("target", str(target))):
        node = graphs.add(graph, "Const", name, dtype=DType.STRING)
        node.attr["value"].tensor.dtype = DType.STRING
        node.attr["value"].tensor.tensor_shape.SetInParent()
        node.attr["value"].tensor.string_val.append(value.encode())
    graphs.add(graph, "ReadFile", "content", "source")
    graphs.add(graph, "WriteFile", "copy", "target", "content")
    graphs.add(graph, "NoOp", "start", "^copy")
    graphs.add(graph, "Placeholder", "x", dtype=DType.FLOAT)
    graphs.add(graph, "Identity", "y", "x", T=DType.FLOAT)
    graphs.save(
        graph, folder, inputs={"x": ("x:0", DType.FLOAT)}, outputs={"y": ("y:0", DType.FLOAT)}
    )
    path = folder / "saved_model.pb"
    model = protos.message("tensorflow.SavedModel").FromString(path.read_bytes())
    at_start = model.meta_graphs[0].collection_def["saved_model_main_op"]
    at_start.node_list.value.append("start")
    path.write_bytes(model.SerializeToString())
    return folder


def test_outcome_is_that_of_the_report_beside_the_folder(models_dir: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    outcome = compile_apart(models_dir / "identity_float32/1", made, runtime=LITERT)
    report = json.loads(report_path(made).read_bytes())
    assert outcome == Outcome(report["reason"], report["seconds"], LITERT)
    assert compiled_folder.is_compiled(made)
    assert sorted(tmp_path.iterdir()) == [made, report_path(made)]


def test_errors_are_those_of_compiling(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no SavedModel"):
        compile_apart(tmp_path, tmp_path / "made")


def test_model_finds_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.setenv(name, "a secret")
    seen = tmp_path / "seen"
    source = _reading_at_start(tmp_path / "model", "/proc/self/environ", seen)
    compile_apart(source, tmp_path / "made")
    assert b"PATH=" in seen.read_bytes()
    assert b"a secret" not in seen.read_bytes()


def test_model_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # nobody writes to it
    source = _reading_at_start(tmp_path / "model", str(pipe), tmp_path / "seen")
    with pytest.raises(DeadlineExceeded, match="Compiling it did not end within 5 seconds"):
        compile_apart(source, tmp_path / "made", timeout_s=5)
    assert str(source) not in [argument for each in _children() for argument in each.cmdline()]
    assert not (tmp_path / "made").exists()


def _children() -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if each.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGABRT, FailedPrecondition, "ended by signal 6: TensorFlow crashes over this"),
        (signal.SIGKILL, ResourceExhausted, "was killed, as happens when memory runs out"),
    ],
)
def test_crash_is_reported(
    models_dir: Path,
    tmp_path: Path,
    number: signal.Signals,
    error: type[ServingError],
    message: str,
) -> None:
    source, library = tmp_path / "crash.c", tmp_path / "crash.so"
    source.write_text(
        textwrap.dedent(f"""
            #include <signal.h>
            #include <unistd.h>
            __attribute__((constructor)) static void crash(void) {{
                for (int file = 1; file < 64; file++) write(file, "{{\\"reason\\": ", 11);
                raise({int(number)});
            }}
        """)
    )
    subprocess.run([*("gcc", "-shared", "-fPIC"), source, "-o", library], check=True)
    with pytest.raises(error, match=message):
        compile_apart(models_dir / "two_versions/1", tmp_path / "made", op_libraries=[str(library)])
