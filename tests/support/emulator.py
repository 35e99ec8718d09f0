"""The Runtime Interface Emulator, which comes with AWS SAM, over the real handler as a process."""

import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from time import monotonic
from typing import IO, Any

import httpx

from support import registry

__all__ = ["BINARY", "images", "invoke", "running"]

_ROOT = Path(__file__).parents[2]
_ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
BINARY = (
    _ROOT
    / f".venv-sam/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    / f"samcli/local/rapid/aws-lambda-rie-{_ARCHITECTURE}"
)
_PATH = "/2015-03-31/functions/function/invocations"
_LISTENS_SECONDS, _ANSWERS_SECONDS = 120, 300


@contextmanager
def running(
    environment: Mapping[str, str], log: int | IO[bytes] = subprocess.DEVNULL
) -> Iterator[str]:
    """The address to invoke a function at that starts with `environment`; stopped afterwards.

    What the function writes goes to `log`.
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
        stdout=log,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(process, api)
        yield f"http://{api}{_PATH}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def images(
    folder: Path, unpack: Callable[[str, Path], Mapping[str, str]] = registry.unpack
) -> Iterator[Callable[[str, Any, str], Any]]:
    """Runs the functions of images for `aws_plane`; all stop with the block.

    An image is unpacked below `folder` and started when it is first asked. The code and the
    libraries are this machine's; only the model is the image's.
    """
    with ExitStack() as stack, httpx.Client(timeout=_ANSWERS_SECONDS) as client:

        @cache
        def start(image: str) -> str:
            root = folder / image.rpartition(":")[2]
            environment = unpack(image, root)
            base_path = f"{root}{environment['MODEL_BASE_PATH']}"
            return stack.enter_context(running({**environment, "MODEL_BASE_PATH": base_path}))

        def run(image: str, event: Any, _: str) -> Any:
            returned = invoke(client, start(image), event)
            if "errorMessage" in returned:
                raise RuntimeError(returned["errorMessage"])
            return returned

        yield run


def invoke(client: httpx.Client, url: str, event: Any) -> Any:
    """What the function returns; one at a time, as the emulator takes no more."""
    return client.post(url, json=event).json()


def _wait(process: subprocess.Popen[bytes], api: str) -> None:
    """Waits until it listens."""
    host, port = api.split(":")
    deadline, pause = monotonic() + _LISTENS_SECONDS, threading.Event()
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            if process.poll() is not None or monotonic() > deadline:
                raise AssertionError("the emulator did not start") from None
            pause.wait(0.01)
        else:
            return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
