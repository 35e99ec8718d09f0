"""Templates as AWS SAM reads them, by the Python that has it."""

import json
import re
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from support.template_rules import View

_ROOT = Path(__file__).parents[3]
_SAM_PYTHON = _ROOT / ".venv-sam/bin/python"
_TEMPLATE = _ROOT / "template.yaml"
_CONTAINER = _ROOT / "docs/container.md"
_SHIFTING = "Canary10Percent5Minutes"
_VIEW = Path(__file__).with_name("view.py")


@pytest.fixture(scope="session")
def sam_says() -> Callable[..., str]:
    """What a program says that has AWS SAM to import."""
    if not _SAM_PYTHON.exists():
        pytest.skip("AWS SAM is missing: make .venv-sam/.done")

    def run(*arguments: str | Path) -> str:
        ended = subprocess.run(
            [_SAM_PYTHON, *arguments], capture_output=True, text=True, check=False, timeout=300
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
    [ours] = read(_TEMPLATE)
    return ours


@pytest.fixture(scope="session")
def full(read: Callable[..., list[View]], tmp_path_factory: pytest.TempPathFactory) -> View:
    """Our template with all that blocks may ask for.

    Requests to `MLP` shift bit by bit, and `resnet` is on a GPU, as docs/container.md has it.
    """
    [block] = re.findall(r"^ +```yaml\n(.*?)```", _CONTAINER.read_text(), re.DOTALL | re.MULTILINE)
    block = textwrap.indent(textwrap.dedent(block.rpartition("\n")[0]), "  ") + "\n\n"
    text = _TEMPLATE.read_text().replace("Outputs:\n", f"{block}Outputs:\n")
    text = text.replace("ModelName: MLP\n", f"ModelName: MLP\n        Shifting: {_SHIFTING}\n")
    file = tmp_path_factory.mktemp("full") / "template.yaml"
    file.write_text(text.replace("TemplateURL: ", f"TemplateURL: {_ROOT}/"))
    [view] = read(file)
    return view
