"""The Runtime Interface Emulator, which comes with AWS SAM, over the real handler as a process."""

import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

__all__ = ["BINARY", "invoke", "running"]

_ROOT = Path(__file__).parents[1]
_ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
BINARY = (
    _ROOT
    / f".venv-sam/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    / f"samcli/local/rapid/aws-lambda-rie-{_ARCHITECTURE}"
)
_PATH = "/2015-03-31/functions/function/invocations"


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[str]:
    """The address to invoke a function at that starts with `environment`; stopped afterwards.

    The emulator leaves its Python child behind when it ends, so both get a group of their own.
    """
    api, runtime = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    process = subprocess.Popen(
        [
            BINARY,
            "--runtime-interface-emulator-address",
            api,
            "--runtime-api-address",
            runtime,
            sys.executable,
            "-m",
            "awslambdaric",
            "handler.handler",
        ],
        cwd=_ROOT / "functions/predict",
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://{api}{_PATH}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def invoke(client: httpx.Client, url: str, event: Any) -> Any:
    """What the function returns; one at a time, as the emulator takes no more."""
    return client.post(url, json=event).json()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
