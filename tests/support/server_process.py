"""`lambda-serving serve` in a process of its own, as a user starts it."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

__all__ = ["COMMAND", "MNIST", "Server", "running", "until"]

COMMAND = Path(sys.executable).with_name("lambda-serving")
MNIST = Path(__file__).parents[2] / "examples/mnist"
_LISTENING = re.compile(r"REST API at: (http://\S+)")
Server = tuple[str, subprocess.Popen[str]]


@contextmanager
def running(*flags: str, under: Sequence[str] = (), command: Path = COMMAND) -> Iterator[Server]:
    """The address and the process of a server on a free port; killed when the block ends.

    `under` is a command that replaces itself by the server, such as `prlimit`.
    """
    process = subprocess.Popen(
        [*under, command, "serve", "--rest_api_port=0", "--port=0", *flags],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _address(process), process
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if match := _LISTENING.search(line):
            return match[1]
    raise AssertionError(f"the server ended: {''.join(said)}")


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Polls until `condition` holds."""
    deadline, pause = monotonic() + seconds, Event()
    while not condition():
        assert monotonic() < deadline, f"it does not hold after {seconds} s"
        pause.wait(0.02)
