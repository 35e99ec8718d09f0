"""Models in each form that is measured, kept in `build/bench-models` from one run to the next.

A form is made again when what makes it has changed: `models.py`, the code of this project, the
versions of TensorFlow and LiteRT, or the environment of the peers.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import click

from benchmarks.children import HERE, MNIST, python

__all__ = ["MODELS", "PEERS_PYTHON", "Model"]

_ROOT = HERE.parents[1]
_CACHE = _ROOT / "build/bench-models"
_COMMAND = Path(sys.executable).with_name("lambda-serving")
PEERS_PYTHON = _ROOT / ".venv-peers/bin/python"
"""The interpreter of the peers' environment (`make .venv-peers/.done`), if it is there."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model with one input, of float32, whose rows have the shape `row`.

    Each method returns the base path of a form, and makes it if it is not there; the version is 1.
    """

    name: str
    title: str
    row: tuple[int, ...]

    def prepare(self) -> None:
        """Makes all forms that are not there, ONNX only if the peers' environment is there."""
        for runtime in ("litert", "tensorflow"):
            self.compiled(runtime)
        if PEERS_PYTHON.exists():
            self.onnx()

    def export(self) -> Path:
        if self.name == "digits":
            return MNIST / "saved"

        def make(folder: Path) -> None:
            subprocess.run(python("models.py", str(folder.parent), self.name), check=True)
            (folder.parent / self.name).rename(folder)

        return _made("export", _digest_of_exports(), self.name, make)

    def compiled(self, runtime: str) -> Path:
        """For `litert` or `tensorflow`, by `lambda-serving compile`."""
        source = self.export() / "1"

        def make(folder: Path) -> None:
            _run([_COMMAND, "compile", f"--runtime={runtime}", source, folder])

        return _made(runtime, _digest_of_compiled(), self.name, make)

    def onnx(self) -> Path:
        """`model.onnx`, by tf2onnx's command."""
        source = self.export() / "1"

        def make(folder: Path) -> None:
            folder.mkdir()
            converter = (PEERS_PYTHON, "-m", "tf2onnx.convert", "--saved-model", source)
            options = ("--tag", "serve", "--signature_def", "serving_default")
            _run([*converter, *options, "--output", folder / "model.onnx"])

        return _made("onnx", _digest_of_onnx(), self.name, make)


_IMAGE = (224, 224, 3)
MODELS = {
    each.name: each
    for each in (
        Model("digits", "MLP 784-100-10", (28, 28, 1)),
        Model("mobilenetv2", "MobileNetV2", _IMAGE),
        Model("efficientnetb0", "EfficientNetB0", _IMAGE),
        Model("resnet50", "ResNet-50", _IMAGE),
    )
}


def _made(form: str, digest: str, name: str, make: Callable[[Path], None]) -> Path:
    base_path = _CACHE / form / digest / name
    if not base_path.exists():
        click.echo(f"{name}: making {form} ...", err=True)
        for stale in _CACHE.glob(f"{form}/*"):
            if stale.name != digest:
                shutil.rmtree(stale)
        base_path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
            made = Path(folder) / name
            made.mkdir()
            make(made / "1")
            made.rename(base_path)
    return base_path


def _run(command: Iterable[str | Path]) -> None:
    """Raises ClickException, with what the command said, if it fails."""
    command = list(command)
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise click.ClickException(
            f"{' '.join(map(str, command))} failed:\n{ended.stdout}{ended.stderr}"
        )


@cache
def _digest_of_exports() -> str:
    return _digest([HERE / "models.py"], version("tensorflow-cpu"), version("keras"))


@cache
def _digest_of_compiled() -> str:
    code = sorted((_ROOT / "layers/serving/python/lambda_serving").rglob("*.py"))
    return _digest(code, _digest_of_exports(), version("ai-edge-litert"))


@cache
def _digest_of_onnx() -> str:
    return _digest([_ROOT / "requirements/peers.txt"], _digest_of_exports())


def _digest(files: Iterable[Path], *words: str) -> str:
    digest = sha256(" ".join(words).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
