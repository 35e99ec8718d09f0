"""`lambda-serving dev` serves what lies in a folder, and follows it."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lambda_serving.cli.dev import dev
from support import commands
from support.deployed_project import make_project
from support.server_process import COMMAND, until

_BODY = {"instances": [2.0]}
Server = tuple[str, subprocess.Popen[str], Path]


@contextmanager
def _running(folder: Path | str, temporary: Path, *, cwd: Path | None = None) -> Iterator[Server]:
    """The address, the process and the file of what it logged; killed when the block ends."""
    log = temporary / "log"
    scratch = temporary / "scratch"
    scratch.mkdir()
    with log.open("w") as errors:
        process = subprocess.Popen(
            [COMMAND, "dev", *([folder] if folder else []), "--rest_api_port=0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=cwd,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
    try:
        yield _address(process, log), process, log
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Page: "):
            return line.removeprefix("Page: ").strip().removesuffix("/docs")
    raise AssertionError(f"the server ended: {log.read_text()}")


def _answer(url: str, model: str) -> object:
    answer = httpx.post(f"{url}/v1/models/{model}:predict", json=_BODY)
    return answer.json().get("predictions", answer.status_code)


def _stop(process: subprocess.Popen[str]) -> int:
    """The exit code after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    return process.returncode


@pytest.fixture
def export(models_dir: Path) -> Callable[[Path, int], None]:
    """Puts version 1 or 2 of a model in place, which answers 3.0 or 4.0."""

    def put(target: Path, version: int) -> None:
        unfinished = target.with_name("unfinished")
        shutil.copytree(models_dir / f"two_versions/{version}", unfinished)
        if target.exists():
            shutil.rmtree(target)
        unfinished.rename(target)

    return put


def test_folder_of_models_is_followed(export: Callable[[Path, int], None], tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "a").mkdir(parents=True)
    export(models / "a/1", 1)
    (models / ".git/1").mkdir(parents=True)
    (models / "empty").mkdir()
    with _running(models, tmp_path) as (url, process, log):
        assert _answer(url, "a") == [3.0]
        assert _answer(url, ".git") == 404
        assert httpx.get(f"{url}/docs").status_code == 200

        (models / "b").mkdir()
        export(models / "b/1", 2)
        until(lambda: _answer(url, "b") == [4.0])
        export(models / "a/1", 2)  # the same version, with other files
        until(lambda: _answer(url, "a") == [4.0])
        export(models / "a/2", 1)
        until(lambda: _answer(url, "a") == [3.0])
        shutil.rmtree(models / "b")
        until(lambda: _answer(url, "b") == 404)

        (models / "c/1").mkdir(parents=True)
        (models / "c/1/saved_model.pb").write_bytes(b"no model")
        until(lambda: "c version: 1" in log.read_text())
        assert _answer(url, "a") == [3.0]
        export(models / "c/1", 1)
        until(lambda: _answer(url, "c") == [3.0])

        assert (_stop(process), "Traceback" in log.read_text()) == (130, False)
    assert [*(tmp_path / "scratch").iterdir()] == []


def test_export_is_served_by_its_folders_name(
    export: Callable[[Path, int], None], tmp_path: Path
) -> None:
    """And a model that does not load does not keep the server from starting."""
    export(tmp_path / "my_export", 1)
    with _running("my_export", tmp_path, cwd=tmp_path) as (url, process, log):
        assert _answer(url, "my_export") == [3.0]
        export(tmp_path / "my_export", 2)
        until(lambda: _answer(url, "my_export") == [4.0])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
        assert (process.returncode, "Traceback" in log.read_text()) == (143, False)
    assert [*(tmp_path / "scratch").iterdir()] == []


def test_project_serves_its_models_though_one_is_broken(
    export: Callable[[Path, int], None], tmp_path: Path
) -> None:
    project = tmp_path / "mine"
    make_project(project, "")
    for name in ("good", "bad"):
        (project / "models" / name / "1").mkdir(parents=True)
    export(project / "models/good/2", 2)
    shutil.rmtree(project / "models/good/1")
    (project / "models/bad/1/saved_model.pb").touch()
    with _running("", tmp_path, cwd=project / "models/good") as (url, process, log):
        assert _answer(url, "good") == [4.0]
        assert "bad" in log.read_text()
        assert _stop(process) == 130


def test_ctrl_c_while_a_model_loads_ends_with_130_and_leaves_nothing(
    export: Callable[[Path, int], None], tmp_path: Path
) -> None:
    """A pipe in place of the warm-up requests keeps the load from ending."""
    (tmp_path / "model").mkdir()
    export(tmp_path / "model/1", 1)
    (tmp_path / "model/1/assets.extra").mkdir()
    os.mkfifo(tmp_path / "model/1/assets.extra/tf_serving_warmup_requests")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [COMMAND, "dev", tmp_path / "model", "--rest_api_port=0"],
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert any(line.endswith(": LOADING\n") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130
    assert [*scratch.iterdir()] == []


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (
            ["/nowhere"],
            1,
            "/nowhere is not a folder. Give the folder of a SavedModel, or of models",
        ),
        ([__file__], 1, "is not a folder. Give"),
        (["model.keras"], 1, "model.keras is a model in Keras's own format. Export it"),
        ([], 2, "There is no project here"),
        (["--rest_api_port=70000"], 2, "Invalid value"),
    ],
)
def test_dev_says_what_is_wrong(
    arguments: list[str], code: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").touch()
    got, _, said = commands.run(dev, arguments, {})
    assert (got, reason in said) == (code, True)
