"""Runs programs on a terminal, where they print more than into a pipe."""

import os
import pty
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["on_a_terminal"]


def on_a_terminal(command: Sequence[str | Path], environment: Mapping[str, str]) -> bytes:
    """What a program writes to its terminal; it must succeed."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stderr=theirs, stdout=theirs, env=environment) as process:
        os.close(theirs)
        said = b"".join(_all(ours))
    os.close(ours)
    assert process.returncode == 0
    return said


def _all(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(terminal, 1000)
        except OSError:  # how a terminal ends
            return
