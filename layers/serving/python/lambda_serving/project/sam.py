"""The user's own AWS SAM CLI: found, checked and run."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lambda_serving.errors import FailedPrecondition

__all__ = ["find", "run"]

_OLDEST = (1, 170, 0)
"""The version with which templates are tested here."""
_STDERR = 2
_VERSION = re.compile(r"version (\d+)\.(\d+)\.(\d+)")


def find() -> str:
    """The path of `sam`.

    Raises FailedPrecondition, with the command that mends it, if there is none or an old one.
    """
    needed = ".".join(map(str, _OLDEST))
    path = shutil.which("sam")
    if path is None:
        raise FailedPrecondition(
            "There is no `sam` in PATH, which builds and deploys. Install AWS SAM CLI:"
            f" pipx install 'aws-sam-cli>={needed}'"
        )
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise FailedPrecondition(f"{path} does not start: {error.strerror}") from error
    found = _VERSION.search(said.stdout)
    if not found:
        told = (said.stderr or said.stdout).strip()[-200:]
        raise FailedPrecondition(
            f"{path} is not AWS SAM CLI, or is broken; `sam --version` says: {told or 'nothing'}."
            f" Install it again: pipx install --force 'aws-sam-cli>={needed}'"
        )
    if tuple(map(int, found.groups())) < _OLDEST:
        raise FailedPrecondition(
            f"{path} is {found[0]}, and {needed} or later is needed. Update it as you installed it,"
            f" such as: pipx install --force 'aws-sam-cli>={needed}'"
        )
    return path


def run(path: str, arguments: Sequence[str], folder: Path, *, quiet: bool = False) -> None:
    """Runs sam in a folder, its output going where ours goes; `quiet` sends all to stderr.

    A signal that ends us ends it too. Raises FailedPrecondition if it fails.
    """
    command = [path, *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=_STDERR if quiet else None) as process:
        try:
            code = process.wait()
        finally:
            if process.returncode is None:
                process.terminate()  # the end of the block waits for it
    if code:
        raise FailedPrecondition(
            f"`sam {arguments[0]}` failed with exit code {code}; its output above says why"
        )
