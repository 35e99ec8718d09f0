"""Fixtures for all tests."""

import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest

import lambda_serving
from lambda_serving.compile.compiler import compile_saved_model
from server_process import MNIST

_LIBRARY = Path(lambda_serving.__file__).parent
_BUILD_MODELS = Path(__file__).parent / "build_models.py"

# A run in the background starts with SIGINT ignored, and so would every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def models_dir(pytestconfig: pytest.Config) -> Path:
    """A folder of the SavedModels of `build_models.py`, each as `<name>/<version>`; read only.

    Built in some ten seconds by a process of its own (no test imports TensorFlow by this), then
    kept in pytest's cache until the program or TensorFlow changes; `--cache-clear` drops it. Two
    runs at once each build a folder, and the first to finish names it.
    """
    cache = pytestconfig.cache
    assert cache is not None
    tensorflow = metadata.version("tensorflow-cpu")
    digest = hashlib.sha256(_BUILD_MODELS.read_bytes() + tensorflow.encode()).hexdigest()
    models = cache.mkdir("models") / digest
    if not models.exists():
        _build(models)
    return models


@pytest.fixture(scope="session")
def compiled_dir(models_dir: Path) -> Path:
    """`models_dir`, each model compiled, the reports beside them; read only.

    Kept as the exports are, until the library changes.
    """
    digest = hashlib.sha256(models_dir.name.encode())
    for source in sorted(_LIBRARY.rglob("*.py")):
        digest.update(source.read_bytes())
    compiled = models_dir.parent / f"compiled-{digest.hexdigest()}"
    if not compiled.exists():
        unfinished = Path(tempfile.mkdtemp(dir=models_dir.parent))
        with ThreadPoolExecutor(2) as pool:
            compile_one = partial(_compile, models_dir, unfinished)
            list(pool.map(compile_one, sorted(models_dir.glob("*/*"))))
        unfinished.rename(compiled)
    return compiled


def _compile(models: Path, out: Path, export_dir: Path) -> None:
    target = out / export_dir.relative_to(models)
    compile_saved_model(export_dir, target, cache=models.parent)


def _build(models: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(dir=models.parent))
    try:
        subprocess.run([sys.executable, str(_BUILD_MODELS), str(unfinished)], check=True)
        unfinished.rename(models)
    except OSError:
        if not models.exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node client with its packages, installed away from the sources."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("client.js", "package.json", "package-lock.json", ".npmrc"):
        (folder / name).write_bytes((MNIST / "node" / name).read_bytes())
    npm = shutil.which("npm")
    assert npm, "npm is missing. Debian has it in npm"
    subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return folder / "client.js"
