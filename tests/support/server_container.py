"""The server's image as people run tensorflow/serving's: mounted models, its own arguments."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from support.docker_engine import docker
from support.rpc_client import free_port
from support.server_process import until

__all__ = ["Container", "running", "state"]


@dataclass(frozen=True, slots=True)
class Container:
    """A server that answers at `url`, and by gRPC at `target`."""

    id: str
    url: str
    target: str


def state(container: str) -> dict[str, Any]:
    """Its state as Docker reports it: `Status`, `ExitCode`, ..."""
    found: dict[str, Any] = json.loads(docker("inspect", "-f", "{{json .State}}", container))
    return found


@contextmanager
def running(image: str, options: list[str], *arguments: str) -> Iterator[Container]:
    """`docker run OPTIONS IMAGE ARGUMENTS` once it is ready, both ports published; removed after.

    Raises AssertionError, with its log, when it ends instead.
    """
    rest, rpc = free_port(), free_port()
    published = [f"--publish=127.0.0.1:{rest}:8501", f"--publish=127.0.0.1:{rpc}:8500"]
    id_ = docker("run", "--detach", *published, *options, image, *arguments).strip()
    url = f"http://127.0.0.1:{rest}"
    try:
        until(lambda: _ready(url) or state(id_)["Status"] == "exited")
        assert state(id_)["Status"] == "running", docker("logs", id_)
        yield Container(id_, url, f"127.0.0.1:{rpc}")
    finally:
        docker("rm", "--force", id_)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
