"""`lambda-serving serve` as a user starts it: a process, a port, a signal."""

import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from support.server_process import COMMAND, MNIST, running

_SECONDS = 300


def _refusal(*flags: str, whole: bool = False) -> str:
    """The sentence with which a start that must fail ends, or the whole log."""
    ended = subprocess.run(
        [COMMAND, "serve", "--port=0", *flags],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended.stderr if whole else ended.stderr[ended.stderr.index("Error: ") :].strip()


def test_serves_the_sample_until_told_to_stop() -> None:
    flags = ("--model_name", "MLP", "--model_base_path", str(MNIST / "saved"))
    with running(*flags) as (url, process):
        body = (MNIST / "request.json").read_bytes()
        answer = httpx.post(f"{url}/v1/models/MLP:predict", content=body)
        assert answer.status_code == 200
        [row] = answer.json()["predictions"]
        assert row.index(max(row)) == 7
        assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS) == 0


def test_picks_the_largest_version_by_number(tmp_path: Path) -> None:
    for version in ("9", "10"):
        shutil.copytree(MNIST / "saved/1", tmp_path / version)
    with running("--model_name=m", f"--model_base_path={tmp_path}") as (url, _):
        [status] = httpx.get(f"{url}/v1/models/m").json()["model_version_status"]
    assert status["version"] == "10"


def test_serves_several_models_with_policies_and_labels(tmp_path: Path, models_dir: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(f"""
        model_config_list {{
          config {{
            name: "two" base_path: "{models_dir}/two_versions" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }}
          }}
          config {{
            name: "half" base_path: "{models_dir}/half_plus_two" model_platform: "tensorflow"
          }}
        }}
    """)
    with running(f"--model_config_file={config}") as (url, _):
        answers = {
            path: httpx.post(f"{url}/v1/models/{path}:predict", json={"instances": [2.0]}).json()
            for path in ("two", "two/labels/stable", "two/versions/2", "half")
        }
    assert answers == {
        "two": {"predictions": [4.0]},
        "two/labels/stable": {"predictions": [3.0]},
        "two/versions/2": {"predictions": [4.0]},
        "half": {"predictions": [3.0]},
    }


def test_cors_flag_reaches_the_answers() -> None:
    flags = (f"--model_base_path={MNIST / 'saved'}", "--rest_api_enable_cors_support")
    with running(*flags) as (url, _):
        assert httpx.get(f"{url}/v1/models/x").headers["access-control-allow-origin"] == "*"


def test_version_flag_prints_both_versions() -> None:
    ended = subprocess.run([COMMAND, "serve", "--version"], capture_output=True, check=True)
    assert re.fullmatch(rb"lambda-serving: \S+\nTensorFlow Library: 2\.\S+\n", ended.stdout)


def test_flags_without_effect_are_told_and_do_not_stop_the_start() -> None:
    said = _refusal(
        "--rest_api_port=0",
        "--model_base_path=/nowhere",
        "--flush_filesystem_caches",
        "--enable_profiler=false",
        "--skip_initialize_tpu=false",
        "--xla_cpu_compilation_enabled",
        whole=True,
    )
    assert re.findall(r"WARNING \S+ (--.*) has no effect", said) == [
        "--flush_filesystem_caches=true",
        "--skip_initialize_tpu=false",
    ]
    assert "Could not read the base path /nowhere" in said


@pytest.mark.parametrize(
    "flag",
    [
        "--use_alts_credentials",
        "--platform_config_file=/p",
        "--thread_pool_factory_config_file=/t",
    ],
)
def test_flag_that_would_change_answers_or_safety_is_refused(flag: str) -> None:
    said = _refusal("--rest_api_port=0", "--model_base_path=/nowhere", flag)
    assert said.startswith(f"Error: {flag.partition('=')[0]}=")
    assert " is not supported: " in said


def test_busy_port_is_reported_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refusal(f"--rest_api_port={port}", f"--model_base_path={MNIST / 'saved'}")
    assert said == (
        f"Error: Could not listen on 127.0.0.1:{port} ([Errno 98] Address already in use)."
        " Choose another port with --rest_api_port, or use 0 for any free port"
    )


def test_base_path_without_versions_says_what_a_version_is(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    said = _refusal("--rest_api_port=0", "--model_name=m", f"--model_base_path={tmp_path}")
    assert said == (
        f"Error: No versions of servable m found under base path {tmp_path}. Each version is a"
        " folder whose name is a number and that holds the SavedModel, e.g."
        f" {tmp_path}/1/saved_model.pb. The base path holds: saved_model.pb. {tmp_path} is a"
        " SavedModel itself, not a base path. Move it into a folder whose name is a number, such as"
        f" {tmp_path}/1"
    )


def _no_folder(version: Path) -> None:
    version.touch()


def _corrupt(version: Path) -> None:
    shutil.copytree(MNIST / "saved/1", version)
    (version / "saved_model.pb").write_bytes(b"\x00not a model")


def _without_shard(version: Path) -> None:
    shutil.copytree(MNIST / "saved/1", version)
    next(version.glob("variables/variables.data-*")).unlink()


def _without_variables(version: Path) -> None:
    shutil.copytree(MNIST / "saved/1", version)
    shutil.rmtree(version / "variables")


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (_no_folder, "Could not find SavedModel"),
        (_corrupt, "Can't parse"),
        (_without_shard, "variables.data-00000-of-00001"),
        (_without_variables, "variables.index is missing"),
    ],
)
def test_unloadable_version_fails_the_start_with_its_reason(
    tmp_path: Path, break_it: object, reason: str
) -> None:
    assert callable(break_it)
    break_it(tmp_path / "1")
    said = _refusal("--rest_api_port=0", "--model_name=m", f"--model_base_path={tmp_path}")
    assert said.startswith("Error: 1 servable(s) did not become available: {name: m version: 1}")
    assert reason in said


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model_base_path=saved"], "absolute path or URI"),
        (["--model_base_path=gs://bucket/m"], "Supported are folders and s3://"),
        (["--model_base_path=/nowhere/at/all"], "Could not read the base path"),
        (["--model_config_file=/nowhere"], "No such file"),
        ([], "Which model?"),
        (["--model_base_pth=/m"], "--model_base_path"),
        (["--rest_api_port=many"], "not a valid integer"),
        (["--model_base_path=/", "--rest_api_port=70000"], "not in the range"),
        (["--model_base_path=/", "--op_libraries=/nowhere.so"], "op library /nowhere.so"),
        (["--model_base_path=/", "--rest_api_num_threads=0"], "not in the range"),
        (
            ["--model_base_path=/", "--batching_parameters_file=/b"],
            "--batching_parameters_file is set without --enable_batching",
        ),
        (
            ["--model_base_path=/", "--enable_batching", "--batching_parameters_file=/nowhere"],
            "No such file",
        ),
    ],
)
def test_wrong_flags_are_told_in_a_sentence(flags: list[str], reason: str) -> None:
    assert reason in _refusal("--rest_api_port=0", *flags)


def test_bucket_without_credentials_is_told_and_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a metadata service without answers
        host, port = silent.getsockname()
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{host}:{port}")
        said = _refusal("--rest_api_port=0", "--model_base_path=s3://bucket/m")
    assert said == (
        "Error: Could not read s3://bucket/m: no AWS credentials (Unable to locate credentials)."
        " Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a"
        " role"
    )
