"""The documents are right: their commands and code run, and their links lead somewhere."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from support.commands import compiled_or_slower
from support.server_process import COMMAND, MNIST, running

_ROOT = Path(__file__).parents[2]
_DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in _ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
_README = (_ROOT / "README.md").read_text()
_SERVING = (_ROOT / "docs/serving.md").read_text()


def _blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _shell(command: str, url: str) -> str:
    """Output of a document's command, with this test's server in place of the usual port."""
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", command.replace("http://localhost:8501", url)],
        cwd=_ROOT,
        env={"PATH": f"{COMMAND.parent}:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def mlp(request: pytest.FixtureRequest, litert_dir: Path) -> Iterator[str]:
    """The address of a server of the handbook's MLP, for each runtime in turn."""
    base_path = MNIST / "saved" if request.param == "tensorflow" else litert_dir / "MLP"
    with running("--model_name=MLP", f"--model_base_path={base_path}") as (url, _):
        yield url


def test_commands_that_ask_the_server_are_answered(mlp: str) -> None:
    asking = [
        (path, block)
        for path in (_ROOT / "docs/serving.md", MNIST / "README.md")
        for block in _blocks("sh", path.read_text())
        if "curl -" in block
    ]
    assert len(asking) == 2
    for path, block in asking:
        said = _shell(block, mlp)
        assert '"predictions":' in said, path
        assert '"error"' not in said, path


def _serve_command(page: str, folder: Path) -> list[str]:
    """The flags of a page's command, but for ports; its `$PWD` is `folder`."""
    [block] = [block for block in _blocks("sh", page) if block.startswith("lambda-serving serve")]
    flags = block.replace("$PWD", str(folder)).split()[2:]
    return [flag for flag in flags if "port" not in flag]


def test_first_steps_of_the_readme_lead_to_an_answer(tmp_path: Path) -> None:
    exporting, loading = _blocks("python", _README)
    [asking] = [block for block in _blocks("sh", _README) if block.startswith("curl ")]
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True)
    run([sys.executable, "-c", exporting])
    with running(*_serve_command(_README, tmp_path)) as (url, _):
        said = json.loads(_shell(asking, url))
    [probabilities] = said["predictions"]
    assert len(probabilities) == 3
    assert run([sys.executable, "-c", loading]).stdout == "(2, 3)\n"


def test_serve_command_of_the_page_starts() -> None:
    with running(*_serve_command(_SERVING, _ROOT)) as (url, _):
        assert '"AVAILABLE"' in _shell("curl -s http://localhost:8501/v1/models/MLP", url)


def test_compile_command_of_the_page_makes_a_base_path(tmp_path: Path) -> None:
    [block] = [block for block in _blocks("sh", _SERVING) if "lambda-serving compile" in block]
    said = _shell(block.replace(" models/", f" {tmp_path}/models/"), "")
    assert compiled_or_slower(tmp_path / "models/MLP/1", said)
    names = {each.name for each in (tmp_path / "models/MLP/1").iterdir()}
    assert len(names & {"model.tflite", "saved_model.pb"}) == 1


def test_timing_script_of_the_performance_page_runs() -> None:
    [code] = _blocks("python", (_ROOT / "docs/performance.md").read_text())
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\[\d+(, \d+){4}\]\n", ended.stdout)


@pytest.mark.parametrize("mlp", ["tensorflow"], indirect=True)  # the client imports TensorFlow
def test_client_of_grpc_web_is_answered(mlp: str) -> None:
    [code] = _blocks("python", (_ROOT / "docs/deploy.md").read_text())
    ended = subprocess.run(
        [sys.executable, "-c", code.replace("http://localhost:8501", mlp)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert ended.stdout == "{'output_0': (2, 10)}\n"


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_makefile_has_every_verb_that_a_page_names(document: Path) -> None:
    verbs = re.findall(r"^([a-z0-9-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    code = re.findall(r"`[^`]+`|^[^`\n]*$", document.read_text(), re.MULTILINE)
    named = {verb for each in code for verb in re.findall(r"(?:^|`|\$ )make ([a-z0-9-]+)", each)}
    assert named <= set(verbs)


def test_workflow_has_the_verbs_of_the_local_run() -> None:
    local, workflow = _ROOT / ".ci/run", _ROOT / ".github/workflows/ci.yml"
    verbs = re.findall(r"^(make .*)$", local.read_text(), re.MULTILINE)
    assert verbs
    run = re.findall(r"- run: \$AS_ROOT (make .*)$", workflow.read_text(), re.MULTILINE)
    assert run == verbs
    makefile = (_ROOT / "Makefile").read_text()
    targets = [next(each for each in verb.split()[1:] if each[0] != "-") for verb in verbs]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    """Each cell of one is a cell of the other, and the last is computed from two of them."""
    benchmarks = (_ROOT / "docs/benchmarks.md").read_text()
    rows = re.findall(
        r"^\| [^|]* \| (\d[^|]*) \| (\d[^|]*) \| ([\d.]+)x \|$", _README, re.MULTILINE
    )
    assert len(rows) == 6
    for ours, theirs, times in rows:
        assert f"| {ours} |" in benchmarks
        assert f"| {theirs} |" in benchmarks
        low, high = sorted(float(each.split()[0]) for each in (ours, theirs))
        assert abs(high / low - float(times)) <= 0.1, (ours, theirs)


def test_contributors_are_sent_to_files_that_are_there() -> None:
    page = (_ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (`[^|]*/[^|]*) \|", page, re.MULTILINE)
    named = [path for row in rows for path in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 20
    roots = _ROOT, _ROOT / "layers/serving/python"
    assert [path for path in named if not any((root / path).exists() for root in roots)] == []


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for target in re.findall(r"\]\(([^):]+)\)", document.read_text()):
        path, _, heading = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        assert not heading or heading in _headings(file), target


def _headings(file: Path) -> set[str]:
    """As GitHub names them in addresses."""
    found = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in found}
