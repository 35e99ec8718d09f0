"""Fixtures for all tests."""

import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fcntl import LOCK_EX, flock
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import lambda_serving
from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.freezer import Freezer
from lambda_serving.compile.timing import Race
from lambda_serving.servables.litert.compiled_folder import mark
from support.build_tflite import HANDBOOK
from support.server_process import MNIST

_LIBRARY = Path(lambda_serving.__file__).parent
_BUILD_MODELS = Path(__file__).parent / "support/build_models.py"
_BUILD_TFLITE = _BUILD_MODELS.with_name("build_tflite.py")

# On a busy machine, slowness is not the code's fault.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A run in the background starts with SIGINT ignored, and so would every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A run under nohup ignores SIGHUP: it still does, but processes that tests start do not.
signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def models_dir(pytestconfig: pytest.Config) -> Path:
    """A folder of the SavedModels of `build_models.py`, each as `<name>/<version>`; read only.

    A separate process builds them in some ten seconds, so that tests need not import TensorFlow.
    They are kept in pytest's cache until the program or TensorFlow changes; `--cache-clear` removes
    them.
    """
    cache = pytestconfig.cache
    assert cache is not None
    tensorflow = metadata.version("tensorflow-cpu")
    digest = hashlib.sha256(_BUILD_MODELS.read_bytes() + tensorflow.encode()).hexdigest()
    return _made_once(cache.mkdir("models") / digest, _build)


@pytest.fixture(scope="session")
def compiled_dir(models_dir: Path) -> Path:
    """`models_dir`, each model compiled, the reports beside them; read only.

    Kept as the exports are, until the library changes.
    """
    digest = hashlib.sha256(models_dir.name.encode())
    for source in sorted(_LIBRARY.rglob("*.py")):
        digest.update(source.read_bytes())
    compiled = models_dir.parent / f"compiled-{digest.hexdigest()}"
    return _made_once(compiled, partial(_compile_all, models_dir))


@pytest.fixture(scope="session")
def tflite_dir(models_dir: Path) -> Path:
    """Some of `models_dir`, and the handbook's, as `<name>/<version>/model.tflite` for LiteRT.

    Kept as the exports are; read only.
    """
    digest = hashlib.sha256(models_dir.name.encode() + _BUILD_TFLITE.read_bytes())
    for export in HANDBOOK.values():
        digest.update((export / "fingerprint.pb").read_bytes())
    command = (sys.executable, str(_BUILD_TFLITE), str(models_dir))
    return _made_once(
        models_dir.parent / f"tflite-{digest.hexdigest()}",
        lambda folder: subprocess.run([*command, str(folder)], check=True),
    )


@pytest.fixture(scope="session")
def litert_dir(tflite_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tflite_dir`, each model marked as compiled for LiteRT: no flag is needed; read only."""
    folder = tmp_path_factory.mktemp("litert") / "models"
    shutil.copytree(tflite_dir, folder)
    for version in folder.glob("*/*"):
        mark(version, metadata.version("ai-edge-litert"))
    return folder


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def runtime_dir(request: pytest.FixtureRequest, models_dir: Path) -> Path:
    """The same models for each runtime in turn: `models_dir`, `litert_dir`."""
    if request.param == "tensorflow":
        return models_dir
    folder: Path = request.getfixturevalue("litert_dir")
    return folder


def _made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder; if it does not exist, makes it, while other processes wait for it."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
                unfinished = Path(aside, "unfinished")
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
    return folder


def _build(models: Path) -> None:
    subprocess.run([sys.executable, str(_BUILD_MODELS), str(models)], check=True)


def _compile_all(models: Path, out: Path) -> None:
    exports = sorted(models.glob("*/*"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(_compile, models, out), (exports[::2], exports[1::2])))


def _compile(models: Path, out: Path, exports: Sequence[Path]) -> None:
    with Freezer() as freezer:
        for export_dir in exports:
            compile_saved_model(
                export_dir,
                out / export_dir.relative_to(models),
                cache=models.parent,
                race=Race(1, 1, lambda _: False),
                freezer=freezer,
            )


@pytest.fixture(scope="session")
def freezer() -> Iterator[Freezer]:
    """Python TensorFlow, in one process for all that these tests compile."""
    with Freezer() as freezer:
        yield freezer


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
