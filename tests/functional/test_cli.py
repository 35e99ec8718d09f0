"""The commands beside `serve`."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

from lambda_serving.golden import read
from server_process import COMMAND, MNIST, running


@pytest.fixture(scope="module")
def url(models_dir: Path) -> Iterator[str]:
    with running("--model_name=two", f"--model_base_path={models_dir}/two_versions") as (url, _):
        yield url


def _run(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    ended = subprocess.run(
        [COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200", "XDG_CACHE_HOME": gettempdir()},
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_predict_takes_rows_a_body_a_file_or_standard_input(url: str, tmp_path: Path) -> None:
    body = '{"instances": [2.0]}'
    (tmp_path / "body.json").write_text(body)
    answers = [
        _run("predict", "two", "[2.0]", "--url", url),
        _run("predict", "two", body, "--url", url),
        _run("predict", "two", f"@{tmp_path}/body.json", "--url", url),
        _run("predict", "two", "--url", url, "--version", "2", stdin=body),
    ]
    assert [(code, json.loads(said)) for code, said, _ in answers] == [
        (0, {"predictions": [4.0]})
    ] * 4


def test_predict_prints_golden_pairs_that_a_push_takes(url: str) -> None:
    code, said, _ = _run("predict", "two", "[2.0, 4.0]", "--url", url, "--golden")
    [pair] = read(said.encode(), "standard output")
    assert (code, pair.request) == (0, {"instances": [2.0, 4.0]})
    assert pair.response == {"predictions": [4.0, 5.0]}


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["two", '["x"]'], 1, "Error: 400 from the server: Failed to process element: 0"),
        (["two", "[1.0]", "--signature_name=nope"], 1, '"nope" not found in signature def'),
        (["other", "[1.0]"], 1, "404 from the server: Servable not found for request"),
        (["two", "[1.0]", "--label=a b"], 1, "Unrecognized servable version label: a b"),
        (["two", "[1.0"], 1, "Error: The data is not JSON"),
        (["two", "@/nowhere"], 1, "Error: Could not read /nowhere"),
        (["two", "[1.0]", "--label=a", "--version=1"], 2, "exclude each other"),
    ],
)
def test_predict_tells_what_went_wrong(
    url: str, arguments: list[str], code: int, reason: str
) -> None:
    got, _, said = _run("predict", "--url", url, *arguments)
    assert (got, "Traceback" in said) == (code, False)
    assert reason in said


def test_predict_without_a_server_says_so() -> None:
    code, _, said = _run("predict", "two", "[1.0]", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "Error: Could not reach http://127.0.0.1:9/v1/models/two:predict: " in said
    assert "Is the server running?" in said


def test_inspect_shows_signatures_of_every_version_and_problems() -> None:
    code, said, _ = _run("inspect", MNIST / "saved")
    assert code == 0
    assert "serving_default" in said
    assert "[n, 28, 28, 1]" in said
    assert "Problem" not in said
    code, said, _ = _run("inspect", MNIST / "saved_with_signature/1")
    assert code == 0
    assert "TensorFlow Serving cannot serve this export" in said
    assert "every request must name its signature ('call')" in said


def test_inspect_names_a_batch_size_that_is_baked_in(models_dir: Path) -> None:
    code, said, _ = _run("inspect", models_dir / "keras3_sequential_fixed_batch")
    assert code == 0
    assert "takes only 5 rows" in said
    assert "model.export(path)" in said


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "There is: nothing"),
        (["model.h5"], "There is: model.h5"),
        (["saved_model.pb"], "Could not find meta graph def"),
    ],
)
def test_inspect_of_no_saved_model_says_what_is_there(
    tmp_path: Path, files: list[str], reason: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    code, _, said = _run("inspect", tmp_path)
    assert code == 1
    assert said.splitlines()[-1].startswith("Error: ")  # TensorFlow greets some processors first
    assert reason in said
