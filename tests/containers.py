"""A function's image as Lambda runs it: its own entry point below the emulator, in Docker."""

import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from time import monotonic, perf_counter
from typing import Any

import emulator
from docker_engine import docker

__all__ = ["Function", "config", "running"]

_START_SECONDS, _ANSWER_SECONDS = 30, 60
_PATH = "/2015-03-31/functions/function/invocations"
_BILLED = re.compile(r"Billed Duration: (\d+) ms")
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass(frozen=True, slots=True)
class Function:
    """A container whose function takes one event at a time."""

    container: str
    port: int
    started: float
    """`perf_counter` when Docker was told to start it."""

    def invoke(self, event: Any) -> Any:
        """What the function returns, be it that it does not start."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("POST", _PATH, json.dumps(event))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def billed_milliseconds(self) -> list[int]:
        """What each event so far would be billed, the first one's with the start."""
        return [int(found) for found in _BILLED.findall(docker("logs", self.container))]

    def peak_bytes(self) -> int:
        """The most memory that the function's process held."""
        statuses = docker("exec", self.container, "sh", "-c", "cat /proc/[0-9]*/status")
        return 1024 * max(int(found) for found in _PEAK.findall(statuses))


def config(image: str) -> dict[str, Any]:
    """What the image says of itself: `Entrypoint`, `Cmd`, `Labels`, `User`, ..."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", "-f", "{{json .Config}}", image))
    return found


@contextmanager
def running(image: str, environment: Mapping[str, str] | None = None) -> Iterator[Function]:
    """The function of an image, from an environment as cold as it gets; removed afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    about = config(image)
    container = docker(
        "create",
        f"--publish=127.0.0.1:{port}:8080",
        f"--volume={emulator.BINARY}:/aws-lambda-rie:ro",
        "--entrypoint=/aws-lambda-rie",
        *(f"--env={name}={value}" for name, value in (environment or {}).items()),
        image,
        *about["Entrypoint"],
        *about["Cmd"],
    ).strip()
    try:
        started = perf_counter()
        docker("start", container)
        _wait(port)
        yield Function(container, port, started)
    finally:
        docker("rm", "--force", container)


def _wait(port: int) -> None:
    """Until the emulator listens. Docker's proxy does so before it, and then hangs up."""
    deadline, pause = monotonic() + _START_SECONDS, threading.Event()
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except ConnectionError:
            if monotonic() > deadline:
                raise
            pause.wait(0.005)
        else:
            return
        finally:
            connection.close()
