"""The handbook's flow: its two models, and clients in Python and Node, against a running server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server_process import MNIST, running

_CONFIG = """
model_config_list {{
  config {{ name: "MLP" base_path: "{MLP}" model_platform: "tensorflow" }}
  config {{ name: "custom" base_path: "{custom}" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def url(
    request: pytest.FixtureRequest, litert_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server with both models, for each runtime in turn.

    TensorFlow restores the second one only by its object graph.
    """
    folder = tmp_path_factory.mktemp("handbook")
    base_paths = {"MLP": MNIST / "saved", "custom": MNIST / "saved_with_signature"}
    if request.param == "litert":
        base_paths = {name: litert_dir / name for name in base_paths}
    config = folder / "models.config"
    config.write_text(_CONFIG.format(**base_paths))
    with running(f"--model_config_file={config}", f"--cache_dir={folder}") as (url, _):
        yield url


def _run(*command: str | Path) -> tuple[int, str, str]:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def _python(url: str, *arguments: str | Path) -> tuple[int, str, str]:
    return _run(sys.executable, MNIST / "client.py", "--url", url, *arguments)


def test_python_client_reads_ten_test_digits(url: str) -> None:
    code, said, _ = _python(f"{url}/v1/models/MLP:predict")
    assert (code, said) == (
        0,
        "predicted [7 2 1 0 4 1 4 9 6 9]\ntrue      [7 2 1 0 4 1 4 9 5 9]\n",
    )


def test_python_client_names_the_signature_of_the_custom_model(url: str) -> None:
    code, said, _ = _python(f"{url}/v1/models/custom:predict", "--signature_name", "call")
    assert code == 0
    assert said.startswith("predicted [7 2 1 0 4 1 4 9 6 9]")


def test_custom_model_without_its_signature_is_refused(url: str) -> None:
    code, _, said = _python(f"{url}/v1/models/custom:predict")
    assert code == 1
    assert 'Serving signature name: "serving_default" not found in signature def' in said


@pytest.mark.parametrize(
    ("model", "arguments"), [("MLP", []), ("custom", ["--signature_name", "call"])]
)
def test_both_clients_see_the_same_digit(
    url: str, node_client: Path, model: str, arguments: list[str]
) -> None:
    target = f"{url}/v1/models/{model}:predict"
    python = _python(target, MNIST / "digit.png", *arguments)
    node = _run("node", node_client, MNIST / "digit.png", "--url", target, *arguments)
    assert (python[0], node[0]) == (0, 0), (python, node)
    digits = [re.findall(r"\b(\d)\b.*\b(0\.\d+)", said) for _, said, _ in (python, node)]
    assert [found[-1][0] for found in digits] == ["5", "5"]
    assert all(len(found[-1][1]) <= len("0.") + 9 for found in digits)
