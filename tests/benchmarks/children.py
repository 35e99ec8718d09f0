"""Child processes that never outlive the benchmark, and the inputs of both sides."""

import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np

__all__ = [
    "HERE",
    "MNIST",
    "Report",
    "ask",
    "check_same",
    "child",
    "python",
    "read_only",
    "report",
    "request_body",
    "tell",
]

HERE = Path(__file__).parent
MNIST = HERE.parents[1] / "examples/mnist"

Report = dict[str, Any]
"""A line of JSON that a child prints."""

_CODE = (HERE.parent, HERE.parents[1] / "layers/serving/python")
_ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, _CODE)), "TF_CPP_MIN_LOG_LEVEL": "2"}
_IMAGES = MNIST / "digits/t10k-100-images-idx3-ubyte.gz"
_IMAGES_HEADER = 16
_STOP_SECONDS = 10


def request_body() -> bytes:
    """A request for the first MNIST test digit, as Python clients write it."""
    pixels = np.frombuffer(gzip.decompress(_IMAGES.read_bytes()), np.uint8, 784, _IMAGES_HEADER)
    rows = pixels.reshape(1, 28, 28, 1).astype(np.float32) / np.float32(255)
    return json.dumps({"instances": rows.tolist()}).encode()


def python(script: str, *arguments: str) -> list[str]:
    """The command that runs a script of this folder with this interpreter."""
    return [sys.executable, str(HERE / script), *arguments]


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """The folder where nothing can be written, as in an image, for the block.

    Only root can do that; without root the folder stays as it is, and LiteRT tries models in a
    process of their own before it loads them.
    """
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as place:
        mount = ["mount", "--bind", "-o", "ro", str(folder), place]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode:
            click.echo(f"{folder} can be written: {mounted.stderr.strip()}", err=True)
            yield folder
            return
        try:
            yield Path(place)
        finally:
            umount = ["umount", place]
            subprocess.run(umount, check=True)


@contextmanager
def child(
    command: Sequence[str], *, seconds: float, output: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A process in its own group, which ends with the block or after `seconds`.

    `output` is for its standard output, as `Popen` takes it.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        text=True,
        start_new_session=True,
        env={**os.environ, **_ENVIRONMENT},
    ) as process:
        watchdog = threading.Timer(seconds, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """Terminates it, gives its children a moment too, then kills them."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def report(process: subprocess.Popen[str]) -> Report:
    """The next line of a child; raises ClickException, with its last output, if it has ended."""
    if process.stdout is None or process.stderr is None:
        raise TypeError("the child has no pipes")
    line = process.stdout.readline()
    if not line:
        raise click.ClickException(f"{process.args!r} ended early:\n{process.stderr.read()}")
    found: Report = json.loads(line)
    return found


def ask(process: subprocess.Popen[str], requests: int) -> Report:
    """The report of `drive.py` on this number of requests."""
    tell(process, requests)
    return report(process)


def tell(process: subprocess.Popen[str], line: int | str) -> None:
    """Writes a line to a child."""
    if process.stdin is None:
        raise TypeError("the child has no pipes")
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def check_same(ours: Report, peer: Report) -> None:
    """Raises ClickException if the two sides predict different values."""
    if not np.allclose(ours["predictions"], peer["predictions"], atol=1e-5):
        raise click.ClickException(f"The predictions differ: ours {ours}, the peer's {peer}")
