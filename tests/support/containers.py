"""A function's image as Lambda runs it: its own entry point below the emulator, in Docker."""

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from support import emulator
from support.docker_engine import docker

__all__ = ["Environments", "Function", "config", "running", "scaled"]

_START_SECONDS, _ANSWER_SECONDS = 120, 300
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

    def invoke(self, event: Any, seconds: float = _ANSWER_SECONDS) -> Any:
        """What the function returns, even if that says that it did not start.

        Raises TimeoutError after so many seconds, and what `http.client` raises of one that ends.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("POST", _PATH, json.dumps(event))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def billed_milliseconds(self) -> list[int]:
        """The milliseconds billed for each event so far; the first includes the start."""
        return [int(found) for found in _BILLED.findall(docker("logs", self.container))]

    def maps(self) -> str:
        """What its processes have mapped."""
        return docker("exec", self.container, "sh", "-c", "cat /proc/[0-9]*/maps")

    def peak_bytes(self) -> int:
        """The most memory that the function's process held."""
        statuses = docker("exec", self.container, "sh", "-c", "cat /proc/[0-9]*/status")
        return 1024 * max(int(found) for found in _PEAK.findall(statuses))


class Environments:
    """Runs functions of images for `aws_plane`, in the way that Lambda does.

    An event goes to an idle environment or to a new one, at most `most` per image; if all are busy,
    it waits. An environment that fails or takes too long is removed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._stacks = dict[Function, ExitStack]()
        self._idle = dict[tuple[str, str], list[Function]]()
        self._count = Counter[tuple[str, str]]()
        self._changed = threading.Condition()
        self._images = set[str]()
        self._pulling = threading.Lock()

    def run(self, image: str, event: Any, qualifier: str, seconds: float = _ANSWER_SECONDS) -> Any:
        """Raises RuntimeError, with what Lambda says, for a function error."""
        # the emulator tells the function no alias, but takes any name, of which it makes the ARN
        name = f"function:{qualifier}" if qualifier.startswith("label-") else "function"
        kind = (image, name)
        function = self._take(kind)
        try:
            returned = function.invoke(event, seconds)
        except TimeoutError:
            self._drop(kind, function)
            raise RuntimeError(f"Task timed out after {seconds:.2f} seconds") from None
        except (OSError, ValueError, HTTPException) as error:
            self._drop(kind, function)
            raise RuntimeError("Runtime exited with error: signal: killed") from error
        if isinstance(returned, dict) and "errorMessage" in returned:
            self._drop(kind, function)
            raise RuntimeError(returned["errorMessage"])
        with self._changed:
            self._idle.setdefault(kind, []).append(function)
            self._changed.notify()
        return returned

    def close(self) -> None:
        """Removes everything it created, images included."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(ExitStack.close, self._stacks.values()))
        if self._images:
            docker("rmi", "--force", *self._images)

    def _take(self, kind: tuple[str, str]) -> Function:
        with self._changed:
            while not self._idle.get(kind) and self._count[kind] == self._most:
                self._changed.wait()
            if idle := self._idle.get(kind):
                return idle.pop()
            self._count[kind] += 1
        try:
            return self._start(*kind)
        except Exception:
            self._uncount(kind)
            raise

    def _start(self, image: str, name: str) -> Function:
        with self._pulling:
            if image not in self._images:
                docker("pull", "--quiet", image)
                self._images.add(image)
        with ExitStack() as stack:
            function = stack.enter_context(running(image, {"AWS_LAMBDA_FUNCTION_NAME": name}))
            self._stacks[function] = stack.pop_all()
        return function

    def _drop(self, kind: tuple[str, str], function: Function) -> None:
        self._stacks.pop(function).close()
        self._uncount(kind)

    def _uncount(self, kind: tuple[str, str]) -> None:
        with self._changed:
            self._count[kind] -= 1
            self._changed.notify()


@contextmanager
def scaled(most: int) -> Iterator[Environments]:
    """Environments of functions, `most` of an image, gone after the block."""
    environments = Environments(most)
    try:
        yield environments
    finally:
        environments.close()


def config(image: str) -> dict[str, Any]:
    """The image's configuration: `Entrypoint`, `Cmd`, `Labels`, `User`, ..."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", "-f", "{{json .Config}}", image))
    return found


@contextmanager
def running(
    image: str,
    environment: Mapping[str, str] | None = None,
    folders: Mapping[Path, str] | None = None,
) -> Iterator[Function]:
    """The function of an image in a new, cold container, which is removed afterwards.

    It sees `folders` of this machine, read-only, where they say.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    about = config(image)
    container = docker(
        "create",
        f"--publish=127.0.0.1:{port}:8080",
        f"--volume={emulator.BINARY}:/aws-lambda-rie:ro",
        "--entrypoint=/aws-lambda-rie",
        *(f"--env={name}={value}" for name, value in (environment or {}).items()),
        *(f"--volume={folder}:{place}:ro" for folder, place in (folders or {}).items()),
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
