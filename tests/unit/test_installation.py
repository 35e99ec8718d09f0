"""Which package provides a module, and the command that installs it again."""

import re
import sys
import tomllib
from pathlib import Path
from shlex import quote

import pytest
from packaging.requirements import Requirement

from lambda_serving.errors import FailedPrecondition
from lambda_serving.installation import broken, mending, translate_import_errors

_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of our package's metadata, as an installation has it."""
    folder = tmp_path / "lambda_serving-1.dist-info"
    folder.mkdir()
    extras = _PROJECT["optional-dependencies"].items()
    wanted = [
        *_PROJECT["dependencies"],
        *(
            f"{each.partition(';')[0]}; sys_platform == 'linux' and extra == '{extra}'"
            for extra, these in extras
            for each in these
        ),
    ]
    lines = ["Metadata-Version: 2.4", "Name: lambda-serving", "Version: 1"]
    (folder / "METADATA").write_text(
        "\n".join([*lines, *(f"Requires-Dist: {each}" for each in wanted)])
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return folder


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        ("boto3", "boto3>=1.40"),
        ("botocore", "boto3>=1.40"),
        ("google", "protobuf>=6.31"),
        ("grpc", "grpcio>=1.76"),
        ("grpc_health", "grpcio-health-checking>=1.76"),
        ("ml_dtypes", "ml-dtypes>=0.5"),
        ("uvloop", "uvloop>=0.21"),
        ("awslambdaric", "lambda-serving[function]"),
        ("mangum", "mangum>=0.19"),
        ("absl", "lambda-serving"),
        ("", "lambda-serving"),
    ],
)
def test_the_command_installs_what_we_depend_on(module: str, requirement: str) -> None:
    assert mending(module) == (
        f"{quote(sys.executable)} -m pip install --force-reinstall {quote(requirement)}"
    )


@pytest.mark.usefixtures("metadata")
def test_tensorflow_is_the_package_of_this_machine() -> None:
    [wanted] = [
        each
        for each in map(Requirement, _PROJECT["dependencies"])
        if each.name.startswith("tensorflow") and (not each.marker or each.marker.evaluate())
    ]
    assert mending("tensorflow").endswith(f" {quote(wanted.name + str(wanted.specifier))}")


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("uv-receipt.toml", "uv tool install --reinstall lambda-serving"),
        ("pipx_metadata.json", "pipx reinstall lambda-serving"),
    ],
)
def test_a_tool_is_installed_again_by_what_installed_it(
    file: str, command: str, tmp_path: Path
) -> None:
    (tmp_path / file).touch()
    assert mending("numpy") == command


@pytest.mark.usefixtures("metadata")
def test_without_pip_it_is_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    python = quote(sys.executable)
    assert mending("rich") == f"uv pip install --python {python} --reinstall 'rich>=14.0'"


def test_without_our_metadata_it_is_the_package(
    metadata: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(metadata)])
    assert mending("grpc").endswith(" grpcio")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModuleNotFoundError("No module named 'x.y'", name="x.y"),
            "The package x is missing or da",
        ),
        (
            ImportError("libz.so: no such file", name="grpc._cython"),
            "The package grpcio is missing",
        ),
        (
            ImportError("a\n\n  b"),
            "The package lambda-serving is missing or damaged (a b). Install",
        ),
        (ModuleNotFoundError("No module", name="fcntl"), "Python has no module fcntl here (No mod"),
    ],
)
def test_the_sentence_names_what_is_missing(error: ImportError, said: str) -> None:
    assert str(broken(error)).startswith(said)


def _explained() -> None:
    try:
        raise ModuleNotFoundError("No module named 'numpy.core'", name="numpy.core")
    except ImportError as error:
        raise ImportError("IMPORTANT!\n" * 1000) from error


def test_an_explanation_does_not_hide_the_module() -> None:
    said = r"The package numpy is missing or damaged \(No module named 'numpy.core'\)"
    with pytest.raises(FailedPrecondition, match=said), translate_import_errors():
        _explained()


def test_a_reason_is_cut() -> None:
    assert len(str(broken(ImportError("x" * 10_000, name="numpy")))) < 600
    assert re.search(r"\(x{300}\)", str(broken(ImportError("x" * 10_000, name="numpy"))))
