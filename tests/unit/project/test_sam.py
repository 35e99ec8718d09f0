from pathlib import Path

import pytest

from lambda_serving.errors import FailedPrecondition
from lambda_serving.project import sam


def _program(folder: Path, script: str) -> str:
    path = folder / "sam"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize("version", ["1.170.0", "1.170.1", "1.1000.0", "2.0.0"])
def test_sam_that_is_new_enough_is_found(path: Path, version: str) -> None:
    program = _program(path, f"echo SAM CLI, version {version}")
    assert sam.find() == program


def test_sam_of_the_locked_requirements_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Path(__file__).parents[3] / ".venv-sam/bin"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    assert sam.find() == str(programs / "sam")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, r"There is no `sam` in PATH.*pipx install 'aws-sam-cli>=1\.170\.0'"),
        ("echo SAM CLI, version 1.169.9", r"version 1\.169\.9.*1\.170\.0 or later is needed.*pipx"),
        ("echo SAM CLI, version 1.99.0", r"1\.170\.0 or later is needed"),
        ("echo No module named samcli >&2; exit 1", "No module named samcli.*Install it again"),
        ("exit 0", "says: nothing"),
    ],
)
def test_sam_that_cannot_be_used_is_one_sentence_with_a_command(
    path: Path, script: str | None, reason: str
) -> None:
    if script is not None:
        _program(path, script)
    with pytest.raises(FailedPrecondition, match=reason):
        sam.find()


def test_sam_without_an_interpreter_is_said(path: Path) -> None:
    _program(path, "")
    (path / "sam").write_text("#!/nowhere\n")
    with pytest.raises(FailedPrecondition, match="does not start: No such file"):
        sam.find()


def test_failure_of_sam_is_ours(path: Path) -> None:
    program = _program(path, 'test "$1" = build && test "$PWD" = "$2"')
    sam.run(program, ["build", str(path)], path)
    with pytest.raises(FailedPrecondition, match="`sam deploy` failed with exit code 1"):
        sam.run(program, ["deploy"], path)
