"""The commands beside `serve`."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import click
import pytest

from lambda_serving import protos
from lambda_serving.cli.completion import completion
from lambda_serving.cli.cost import cost
from lambda_serving.cli.deploy import deploy
from lambda_serving.cli.destroy import destroy
from lambda_serving.cli.dev import dev
from lambda_serving.cli.inspect import inspect
from lambda_serving.cli.logs import logs
from lambda_serving.cli.metrics import metrics
from lambda_serving.cli.predict import predict
from lambda_serving.release.golden import read
from support import commands
from support.deployed_project import make_project
from support.server_process import COMMAND, MNIST, running


@pytest.fixture(scope="module")
def url(models_dir: Path) -> Iterator[str]:
    with running("--model_name=two", f"--model_base_path={models_dir}/two_versions") as (url, _):
        yield url


_ENVIRONMENT: dict[str, str] = {"COLUMNS": "200", "XDG_CACHE_HOME": gettempdir()}


def _run_apart(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    """In a process of its own."""
    ended = subprocess.run(
        [COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **_ENVIRONMENT},
    )
    return ended.returncode, ended.stdout, ended.stderr


def _predict(*arguments: str) -> tuple[int, str, str]:
    return commands.run(predict, arguments, _ENVIRONMENT)


def _inspect(*arguments: str | Path) -> tuple[int, str, str]:
    return commands.run(inspect, [*map(str, arguments)], _ENVIRONMENT)


def test_predict_takes_rows_a_body_a_file_or_standard_input(url: str, tmp_path: Path) -> None:
    body = '{"instances": [2.0]}'
    (tmp_path / "body.json").write_text(body)
    answers = [
        _predict("two", "[2.0]", "--url", url),
        _predict("two", body, "--url", url),
        _predict("two", f"@{tmp_path}/body.json", "--url", url),
        _run_apart("predict", "two", "--url", url, "--version", "2", stdin=body),
    ]
    assert [(code, json.loads(said)) for code, said, _ in answers] == [
        (0, {"predictions": [4.0]})
    ] * 4


def test_predict_prints_golden_pairs_that_a_push_takes(url: str) -> None:
    code, said, _ = _predict("two", "[2.0, 4.0]", "--url", url, "--golden")
    [pair] = read(said.encode(), "standard output")
    assert (code, pair.request) == (0, '{"instances": [2.0, 4.0]}')
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
        (["two", "[1.0]", "--label=a", "--version=1"], 2, "Use either --version or --label"),
    ],
)
def test_predict_tells_what_went_wrong(
    url: str, arguments: list[str], code: int, reason: str
) -> None:
    got, _, said = _predict("--url", url, *arguments)
    assert (got, "Traceback" in said) == (code, False)
    assert reason in said


def test_predict_without_a_server_says_so() -> None:
    code, _, said = _predict("two", "[1.0]", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "Error: Could not reach http://127.0.0.1:9/v1/models/two:predict: " in said
    assert "Is the server running?" in said


def test_inspect_shows_signatures_of_every_version_and_problems() -> None:
    code, said, _ = _inspect(MNIST / "saved")
    assert code == 0
    assert "serving_default" in said
    assert " MiB, TensorFlow" in said
    assert "[n, 28, 28, 1]" in said
    assert "Problem" not in said
    code, said, _ = _run_apart("inspect", MNIST / "saved_with_signature/1")
    assert code == 0
    assert "TensorFlow Serving cannot serve this export" in said
    assert "every request must name its signature ('call')" in said


_STRANGE = [
    *("emb[user]", "probs[/b]", ":smile:", r"a\[b]", "[red]", "\x1b[31m"),
    *("x" * 300 + "1", "x" * 300 + "2"),
]


@pytest.fixture(scope="module")
def strange(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`half_plus_two` in a folder, under tags, with signatures and inputs of strange names."""
    folder = tmp_path_factory.mktemp("strange") / "model :smile:"
    shutil.copytree(models_dir / "half_plus_two" / "123", folder)
    path = folder / "saved_model.pb"
    model = protos.message("tensorflow.SavedModel").FromString(path.read_bytes())
    model.meta_graphs[0].meta_info_def.tags[:] = ["eval", "cpu"]
    definitions = model.meta_graphs[0].signature_def
    for name in _STRANGE:
        definitions[name].CopyFrom(definitions["serving_default"])
        definitions[name].inputs[name].CopyFrom(definitions[name].inputs.pop("x"))
    path.write_bytes(model.SerializeToString())
    return folder


@pytest.mark.parametrize("columns", [None, "60", "100"])
def test_inspect_prints_names_whole_and_as_they_are(strange: Path, columns: str | None) -> None:
    environment = {**_ENVIRONMENT, "COLUMNS": columns}
    arguments = [str(strange), "--saved_model_tags=cpu,eval"]
    code, said, _ = commands.run(inspect, arguments, environment)
    assert code == 0
    assert f"{strange}:" in said.replace("\n", " ")  # a long path is split at its blank
    lines = said.splitlines()
    for name in _STRANGE:
        shown = name.replace("\x1b", r"\x1b")
        assert lines[lines.index(shown) + 1].startswith(f"  input  {shown}:")
    assert "\x1b" not in said
    for line in lines if columns else []:
        assert len(line) <= int(columns or 0) or " " not in line[9:].strip()


def test_inspect_fits_60_columns(models_dir: Path) -> None:
    for model in ("keras3_sequential_fixed_batch", "two_versions"):
        code, said, _ = commands.run(
            inspect, [str(models_dir / model)], {**_ENVIRONMENT, "COLUMNS": "60"}
        )
        wide = commands.run(inspect, [str(models_dir / model)], {**_ENVIRONMENT, "COLUMNS": None})
        assert code == 0
        assert [line for line in said.splitlines() if len(line) > 60 and " " in line.strip()] == []
        assert said.split() == wide[1].split()  # the same words, none of them cut


def test_inspect_shows_lite_models(tflite_dir: Path) -> None:
    model = tflite_dir / "gather"
    code, said, _ = _inspect(model, "--prefer_tflite_model", "--json")
    [version] = json.loads(said)["versions"]
    signature = version["signatures"]["serving_default"]
    assert (code, version["error"], version["problems"]) == (0, None, [])
    assert version["runtime"] == "litert"
    assert ": 0.0 MiB, LiteRT" in _inspect(model, "--prefer_tflite_model")[1]
    assert signature["inputs"]["x"]["shape"] == [None, 4]
    assert signature["inputs"]["i"]["dtype"] == "int32"
    code, _, errors = _inspect(model)
    assert code == 1
    assert "serve it with --prefer_tflite_model" in errors


def test_inspect_prints_json(strange: Path) -> None:
    code, said, _ = _inspect(strange, "--saved_model_tags=cpu,eval", "--json")
    [version] = json.loads(said)["versions"]
    assert (code, version["runtime"]) == (0, "tensorflow")
    assert sorted(version) == ["bytes", "error", "path", "problems", "runtime", "signatures"]
    assert (version["path"], version["error"], version["problems"]) == (str(strange), None, [])
    files = (path for path in strange.rglob("*") if path.is_file())
    assert version["bytes"] == sum(path.stat().st_size for path in files)
    assert {*_STRANGE} < version["signatures"].keys()
    assert version["signatures"]["probs[/b]"] == {
        "method_name": "tensorflow/serving/predict",
        "inputs": {
            "probs[/b]": {"dtype": "float", "shape": [None], "tensor": "serving_default_x:0"}
        },
        "outputs": {
            "y": {"dtype": "float", "shape": [None], "tensor": "StatefulPartitionedCall_4:0"}
        },
    }


def test_inspect_shows_the_versions_that_load_and_fails_for_the_others(
    models_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(models_dir / "half_plus_two" / "123", tmp_path / "1")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "saved_model.pb").write_bytes(b"\xff")
    for arguments in ([], ["--json"]):
        code, said, errors = _inspect(tmp_path, *arguments)
        assert (code, "serving_default" in said, "Traceback" in errors) == (1, True, False)
        assert "Read less bytes" in (said if arguments else errors)
    loaded, failed = json.loads(said)["versions"]
    assert (loaded["error"], sorted(failed)) == (None, ["error", "path"])


def test_inspect_names_the_tags_there_are(strange: Path) -> None:
    code, _, said = _inspect(strange)
    assert code == 1
    assert said.endswith(" Its tags are cpu,eval: name them in --saved_model_tags\n")


def test_inspect_takes_op_libraries() -> None:
    code, _, said = _inspect(MNIST / "saved", "--op_libraries=/nowhere.so")
    assert (code, "Could not load op library /nowhere.so" in said) == (1, True)


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "{}"],
        ["compile", "{}", "/nowhere/1"],
        ["push", "{}", "/nowhere/1"],
        ["batch", "{}", "--input={}", "--output={}.out"],
        ["serve", "--model_base_path={}", "--port=0", "--rest_api_port=0"],
    ],
)
def test_every_command_says_what_to_do_with_another_format(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "digits.keras").touch()
    code, _, said = _run_apart(*(part.format(tmp_path / "digits.keras") for part in command))
    assert (code, "Traceback" in said) == (1, False)
    assert f"{tmp_path}/digits.keras is a model in Keras's own format. Export it" in said


def test_inspect_names_a_batch_size_that_is_baked_in(models_dir: Path) -> None:
    code, said, _ = _inspect(models_dir / "keras3_sequential_fixed_batch")
    assert code == 0
    assert "takes only 5 rows" in said
    assert "model.export(path)" in said


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "It holds: nothing. Put a model into it: model.export("),
        (["model.h5"], "model.h5 is a model in Keras's own format"),
        (["saved_model.pb"], "Could not find meta graph def"),
    ],
)
def test_inspect_of_no_saved_model_says_what_is_there(
    tmp_path: Path, files: list[str], reason: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    code, _, said = _inspect(tmp_path)
    assert code == 1
    assert said.splitlines()[-1].startswith("Error: ")  # TensorFlow greets some processors first
    assert reason in said


@pytest.mark.parametrize("columns", [40, 100])
def test_help_lists_whole_sentences(columns: int) -> None:
    said = subprocess.check_output(
        [COMMAND, "--help"], env={**os.environ, "COLUMNS": str(columns)}, text=True
    )
    _, _, listed = said.partition("Commands:")
    assert "..." not in listed
    assert "one output file per input file" in " ".join(listed.split())


_SHELLS = {"bash": "_LAMBDA_SERVING_COMPLETE=bash_complete", "zsh": "#compdef", "fish": "complete "}


@pytest.mark.parametrize("shell", _SHELLS)
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
    code, said, _ = commands.run(completion, [shell], {})
    assert code == 0
    assert _SHELLS[shell] in said
    assert "lambda-serving" in said


def test_completion_completes_commands_options_and_environments(tmp_path: Path) -> None:
    """As bash does it: the script is read, and its function asked for each word."""
    make_project(tmp_path, "[dev]\n[prod]\n[production]\n")
    script = """
        eval "$(lambda-serving completion bash)"
        for words in "des" "metrics --sin" "logs --env pr"
        do
            COMPREPLY=() COMP_WORDS=(lambda-serving $words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _lambda_serving_completion lambda-serving
            echo "${COMPREPLY[@]}"
        done
    """
    said = subprocess.check_output(
        ["/bin/bash", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"},
        text=True,
    )
    assert said.splitlines() == ["destroy", "--since", "prod production"]


@pytest.mark.parametrize("command", [cost, deploy, destroy, dev, logs, metrics, completion])
def test_help_of_commands_of_a_project_has_an_example(command: click.Command) -> None:
    code, said, _ = commands.run(command, ["--help"], {"COLUMNS": "80"})
    assert code == 0
    assert re.search(r"Examples?: (eval .*)?\$?\(?lambda-serving", " ".join(said.split()))


_SWALLOWING = """
import signal, threading, weakref
from lambda_serving.cli.signals import end_by_signals

class Thing:
    pass

end_by_signals()
thing = Thing()
watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
del thing
threading.Event().wait(300)
"""


def test_signal_in_a_callback_whose_exceptions_python_ignores_ends_a_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _SWALLOWING],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (143, "")


@pytest.mark.parametrize(("before", "code"), [("", 130), ("trap '' INT; ", 0)])
def test_ctrl_c_ends_a_command_unless_it_is_ignored(before: str, code: int) -> None:
    """A script ignores SIGINT for its commands in the background."""
    server = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    with (
        server,
        subprocess.Popen(
            ["/bin/bash", "-c", f'{before}exec "$0" predict m [1] --url "$1"', COMMAND, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **_ENVIRONMENT},
        ) as process,
    ):
        client, _ = server.accept()
        with client:
            process.send_signal(signal.SIGINT)
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            said, errors = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "" if code else "{}\n")
    assert "Traceback" not in errors
