"""Templates as AWS SAM reads them, by the Python that has it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from template_rules import View

_ROOT = Path(__file__).parents[3]
_SAM_PYTHON = _ROOT / ".venv-sam/bin/python"
_VIEW = Path(__file__).with_name("view.py")


@pytest.fixture(scope="session")
def sam_says() -> Callable[..., str]:
    """What a program says that has AWS SAM to import."""
    if not _SAM_PYTHON.exists():
        pytest.skip("AWS SAM is missing: make .venv-sam/.done")

    def run(*arguments: str | Path) -> str:
        ended = subprocess.run(
            [_SAM_PYTHON, *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@pytest.fixture(scope="session")
def read(sam_says: Callable[..., str]) -> Callable[..., list[View]]:
    """Views of template files."""

    def read(*files: Path) -> list[View]:
        views = json.loads(sam_says(_VIEW, *files))
        return [view | {"text": file.read_text()} for view, file in zip(views, files, strict=True)]

    return read


@pytest.fixture(scope="session")
def view(read: Callable[..., list[View]]) -> View:
    """Our template."""
    [ours] = read(_ROOT / "template.yaml")
    return ours
