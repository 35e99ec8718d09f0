"""The workflows of GitHub: pinned actions, few rights, and commands that are there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

_ROOT = Path(__file__).parents[3]
_FILES = sorted((_ROOT / ".github/workflows").glob("*.yml"))


def _workflow(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def _steps(file: Path) -> Iterator[dict[str, Any]]:
    for job in _workflow(file)["jobs"].values():
        yield from job["steps"]


@pytest.fixture(params=_FILES, ids=lambda file: file.name)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_actions_have_a_version(file: Path) -> None:
    used = [step["uses"] for step in _steps(file) if "uses" in step]
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", each)] == []


def test_rights_are_given_to_single_jobs(file: Path) -> None:
    workflow = _workflow(file)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        rights = job.get("permissions", {})
        assert ("contents", "write") not in rights.items() or rights == {"contents": "write"}


def test_no_secret_is_stored(file: Path) -> None:
    """Trusted publishing and keyless signatures need none."""
    assert "secrets." not in file.read_text()


def test_what_a_tag_or_branch_is_called_is_never_code(file: Path) -> None:
    """An expression in a script is text of whoever pushes; in the environment it is a value."""
    assert [step["run"] for step in _steps(file) if "${{" in step.get("run", "")] == []


def test_scripts_are_bash(file: Path) -> None:
    for step in _steps(file):
        if "run" in step:
            subprocess.run(["/bin/bash", "-n"], input=step["run"], text=True, check=True)


def test_verbs_are_in_the_makefile(file: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    scripts = "\n".join(step.get("run", "") for step in _steps(file))
    named = re.findall(r"\bmake (?:-\S+ )*([a-z][a-z0-9-]*)", scripts)
    assert named
    assert set(named) <= set(targets)


def test_release_waits_for_the_tagged_version() -> None:
    jobs = _workflow(_ROOT / ".github/workflows/release.yml")["jobs"]
    first, *others = jobs
    assert first == "distributions"
    assert [name for name in others if first not in jobs[name]["needs"]] == []
    assert [name for name, job in jobs.items() if "environment" in job] == ["pypi"]
