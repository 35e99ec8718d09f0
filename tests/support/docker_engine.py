"""Docker Engine and our base image for as long as they are needed.

`python docker_engine.py COMMAND ...` runs a command while an engine answers. An engine that was
already running is left alone; one that had to be started is stopped again, by its process id.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO

import click

__all__ = ["BASE_IMAGE", "build", "docker", "make_base_image", "running"]

BASE_IMAGE = "lambda-base:bookworm"
_ROOT = Path(__file__).parents[2]
_START_SECONDS, _STOP_SECONDS = 120, 60
_LAST_WORDS = 2000


@contextmanager
def running() -> Iterator[None]:
    """Makes Docker Engine answer within the block; raises ClickException if that fails."""
    if _answers():
        yield
        return
    if (dockerd := shutil.which("dockerd")) is None:
        raise click.ClickException("Docker Engine does not answer and is not installed: docker.io")
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen([dockerd], stdout=log, stderr=log, start_new_session=True) as engine,
    ):
        try:
            _wait(engine, log)
            yield
        finally:
            _stop(engine)


def docker(*arguments: str) -> str:
    """What a docker command prints. Raises ClickException, with what it said, when it fails."""
    return _run(["docker", *arguments])


def make_base_image() -> None:
    """Builds `BASE_IMAGE` from Debian's packages, if it is not there."""
    _run([str(_ROOT / "images/base-image/build")])


def build(tag: str, dockerfile: str, *options: str) -> str:
    """Builds an image on `BASE_IMAGE` from the root of the repository; the image's name."""
    base = f"--build-arg=BASE_IMAGE={BASE_IMAGE}"
    docker("build", f"--tag={tag}", f"--file={_ROOT / dockerfile}", base, *options, str(_ROOT))
    return tag


def _answers() -> bool:
    if (command := shutil.which("docker")) is None:
        raise click.ClickException("The command docker is missing. Debian has it in docker.io")
    return subprocess.run([command, "info"], capture_output=True, check=False).returncode == 0


def _wait(engine: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    deadline, pause = monotonic() + _START_SECONDS, threading.Event()
    while not _answers():
        if engine.poll() is not None or monotonic() > deadline:
            log.seek(0)
            said = log.read().decode(errors="replace")[-_LAST_WORDS:]
            raise click.ClickException(f"Docker Engine did not start (only root may):\n{said}")
        pause.wait(0.2)


def _stop(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()  # it stops its containers first
    try:
        engine.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        engine.kill()


def _run(command: Sequence[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = (ended.stdout + ended.stderr)[-_LAST_WORDS:]
        raise click.ClickException(f"{' '.join(command)} failed:\n{said}")
    return ended.stdout


@click.command(context_settings={"ignore_unknown_options": True}, help=__doc__)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def _main(command: Sequence[str]) -> None:
    with running():
        code = subprocess.run(command, check=False).returncode
    sys.exit(code)


if __name__ == "__main__":
    _main()
