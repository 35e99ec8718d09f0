"""What is installed: the same bounds everywhere, and no TensorFlow where only predictions are."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

_ROOT = Path(__file__).parents[2]
_PYPROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())
_GROUPS: dict[str, Any] = _PYPROJECT["dependency-groups"]
_IMAGES = sorted(_GROUPS.keys() - {"dev"})


def _names(group: str) -> set[str]:
    """A group's requirements, with those of the groups that it includes."""
    found = set[str]()
    for each in _GROUPS[group]:
        found |= _names(each["include-group"]) if isinstance(each, dict) else {each}
    return found


def _locked(name: str) -> dict[str, str]:
    """The versions of a lock, by package."""
    text = (_ROOT / f"requirements/{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("group", _IMAGES)
def test_images_have_requirements_of_the_package_with_the_same_bounds(group: str) -> None:
    project = _PYPROJECT["project"]
    assert _names(group) <= {
        *project["dependencies"],
        *project["optional-dependencies"]["function"],
    }


def test_a_function_has_all_that_its_extra_names() -> None:
    assert set(_PYPROJECT["project"]["optional-dependencies"]["function"]) <= _names("function")


@pytest.mark.parametrize("lock", ["function", "container"])
def test_images_that_only_predict_have_no_tensorflow(lock: str) -> None:
    found = _locked(lock)
    assert "ai-edge-litert" in found
    assert [each for each in found if each.startswith(("tensorflow", "keras", "jax"))] == []


@pytest.mark.parametrize("lock", ["function", "container", "compile", "dev"])
def test_locks_hold_what_is_required(lock: str) -> None:
    """A lock is of this machine's kind, which markers name."""
    required = _names(lock) | (
        set(_PYPROJECT["project"]["dependencies"]) if lock == "dev" else set()
    )
    found = _locked(lock)
    for each in map(Requirement, required):
        if not each.marker or each.marker.evaluate({"platform_machine": "x86_64"}):
            assert each.specifier.contains(found[each.name]), each


def test_images_have_the_versions_that_tests_run_with() -> None:
    tested = _locked("dev")
    for lock in ("function", "container", "compile"):
        found = _locked(lock)
        assert found == {name: tested[name] for name in found}, lock


def test_arm64_has_the_same_versions() -> None:
    ours, arm = _locked("compile"), _locked("compile-aarch64")
    assert ours.pop("tensorflow-cpu") == arm.pop("tensorflow")
    assert ours == arm
