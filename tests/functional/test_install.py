"""A package that is missing or damaged is told in one sentence, with the command that mends it."""

import _ctypes
import ast
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import lambda_serving
from lambda_serving.api.rest.app import create_app
from lambda_serving.core.basic_manager import Manager
from lambda_serving.installation import mending
from lambda_serving.servables import saved_model
from lambda_serving.store import LocalStore
from support.asgi import ask
from support.server_process import MNIST
from support.tflite_files import edited, with_metadata

_ROOT = Path(__file__).parents[2]
_PACKAGE = Path(lambda_serving.__file__).parent
_FLAG = "--prefer_tflite_model"
_SERVE = ["serve", "--model_name=m", "--rest_api_port=0", "--port=0", _FLAG]
_HALF = [*_SERVE, "--model_base_path={tflite}/half_plus_two"]
_RPC = [*_HALF, "--grpc_socket_path={folder}/grpc", "--enable_grpc_healthcheck_service"]
_NEEDED_BY = {
    "ai_edge_litert": ["inspect", "{tflite}/half_plus_two", _FLAG],
    "boto3": ["label", "s3://bucket/m"],
    "botocore": ["status", "s3://bucket/m", "--stack=s"],
    "click": ["--help"],
    "flatbuffers": ["inspect", "{folder}/metadata", _FLAG],
    "google": [*_SERVE[:1], "--model_config_file={folder}/models.config"],
    "google_crc32c": ["inspect", "{models}/warmed"],
    "grpc": _RPC,
    "grpc_health": _RPC,
    "httptools": _HALF,
    "keras": ["init", "{folder}/keras", "--model={folder}/m.keras"],
    "httpx": ["reconcile", "s3://bucket/m", "--stack=s", "--local"],
    "mangum": ["init", "{folder}/called", "--model={models}/half_plus_two/123"],
    "ml_dtypes": ["inspect", "{tflite}/identity_bfloat16", _FLAG],
    "numpy": ["inspect", "{models}/half_plus_two"],
    "orjson": _HALF,
    "platformdirs": ["inspect", "{models}/keras3_saved"],
    "rich": ["inspect", "{models}/half_plus_two"],
    "s3transfer": ["push", "{models}/half_plus_two/123", "s3://bucket/m/1"],
    "simdjson": _HALF,
    "snapshot_restore_py": ["init", "{folder}/called", "--model={models}/half_plus_two/123"],
    "starlette": _HALF,
    "tensorflow": ["compile", str(MNIST / "saved"), "{folder}/out"],
    "uvicorn": [*_HALF, "--workers=2"],
    "yaml": ["init", "{folder}/new"],
}
"""For each module that is not ours, a command that imports it."""

_NEEDED_BY_REQUESTS = {"fastapi"}


def _imports(node: ast.AST) -> Iterator[str]:
    """What runs below `node` import, at any depth; not what only types need."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                continue
            case ast.Import(names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case _:
                yield from _imports(child)


def _foreign() -> set[str]:
    modules = {
        module.partition(".")[0]
        for path in _PACKAGE.rglob("*.py")
        if not path.is_relative_to(_PACKAGE / "project/files")  # of users' projects
        for module in _imports(ast.parse(path.read_text()))
    }
    return modules - set(sys.stdlib_module_names) - {"lambda_serving"}


def test_every_module_that_is_not_ours_is_tried() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    handlers = {
        re.split(r"[^\w-]", each)[0].replace("-", "_")
        for each in project["optional-dependencies"]["function"]
    }
    assert _foreign() - handlers == _NEEDED_BY.keys() | _NEEDED_BY_REQUESTS


@pytest.fixture(scope="module")
def places(
    models_dir: Path, tflite_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "models.config").write_text("model_config_list {}")
    (folder / "m.keras").touch()
    named = with_metadata({"x": "serving_default_x:0"}, {"y": "StatefulPartitionedCall:0"})
    model = (tflite_dir / "half_plus_two/123/model.tflite").read_bytes()
    (folder / "metadata/1").mkdir(parents=True)
    (folder / "metadata/1/model.tflite").write_bytes(edited(model, named))
    return {"models": models_dir, "tflite": tflite_dir, "folder": folder}


def _run(path: Path, arguments: list[str], places: dict[str, Path]) -> tuple[int, str]:
    """A command in whose processes modules below `path` precede all others."""
    ended = subprocess.run(
        [sys.executable, "-m", "lambda_serving", *(each.format(**places) for each in arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "PYTHONPATH": f"{path}:{_PACKAGE.parent}",
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
    )
    return ended.returncode, ended.stdout + ended.stderr


def _damage(path: Path, module: str) -> None:
    (path / module).mkdir()
    (path / module / "__init__.py").write_text(
        f"raise ModuleNotFoundError('No module named {module}', name='{module}')"
    )


@pytest.mark.parametrize("module", sorted(_NEEDED_BY))
def test_a_command_that_needs_a_module_says_what_installs_it(
    module: str, places: dict[str, Path], tmp_path: Path
) -> None:
    _damage(tmp_path, module)
    code, said = _run(tmp_path, _NEEDED_BY[module], places)
    assert (code, "Traceback" in said) == (1, False), said
    assert mending(module) in said


def test_a_page_that_needs_a_module_is_an_error_whose_reason_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "lambda_serving.api.rest.health_and_docs", raising=False)
    with caplog.at_level(logging.ERROR):
        answer = ask(create_app(Manager(LocalStore({}), saved_model.load)), "GET", "/docs")
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    [line] = caplog.records
    assert mending("fastapi") in line.getMessage()
    assert line.exc_info is None


@pytest.mark.parametrize("content", [b"\x7fELF", Path(_ctypes.__file__).read_bytes()])
def test_a_damaged_library_of_tensorflow_is_told(
    content: bytes, places: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/__init__.py").touch()
    (tmp_path / "tensorflow/libtensorflow_cc.so.2").write_bytes(content)
    arguments = [*_SERVE, "--model_base_path={models}/half_plus_two"]
    code, said = _run(tmp_path, arguments, places)
    assert (code, "Traceback" in said) == (1, False), said
    assert "Could not open TensorFlow's library: " in said
    assert mending("tensorflow") in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", str(MNIST / "saved"), "{folder}/copied", "--runtime=tensorflow"],
        ["inspect", "{models}/keras3_saved", "--cache_dir={folder}/cache"],
    ],
)
def test_python_tensorflow_that_does_not_start_is_told(
    arguments: list[str], places: dict[str, Path], tmp_path: Path
) -> None:
    """Its libraries are there, as in images that only predict."""
    _damage(tmp_path, "tensorflow")
    spec = find_spec("tensorflow")
    assert spec is not None
    assert spec.origin is not None
    for library in Path(spec.origin).parent.glob("libtensorflow_*"):
        (tmp_path / "tensorflow" / library.name).symlink_to(library)
    code, said = _run(tmp_path, arguments, places)
    assert (code, "Traceback" in said) == (1, False), said
    assert mending("tensorflow") in said
    assert not (places["folder"] / "copied/1").exists()
