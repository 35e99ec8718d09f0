"""A long run of the server: 200,000 requests of all kinds, 50 reloads, and its memory then.

`soaker.py` sends the requests; any unexpected answer ends the benchmark.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import click
import httpx
import psutil

from benchmarks import load
from benchmarks.children import HERE, child, python, report, tell
from benchmarks.rows import Row, Unit
from support.rpc_client import free_port

__all__ = ["measure", "soak"]

_CLIENTS = 4
_SECONDS = 1800
_WANTED = 1.1
_MB = 1e6


def measure(*, quick: bool) -> list[Row]:
    """Resident memory at the end (ours) and after the first requests (the peer)."""
    first, count, reloads = (100, 300, 1) if quick else (5000, 200_000, 50)
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder:
        models = [sys.executable, str(HERE.parent / "support/build_models.py"), folder]
        subprocess.run(models, check=True, stderr=subprocess.DEVNULL)
        return soak(Path(folder) / "half_plus_two/123", first, count, reloads)


def soak(export: Path, first: int, count: int, reloads: int) -> list[Row]:
    """Rows of a server of `half_plus_two`; raises ClickException for any unexpected answer."""
    with ExitStack() as stack:
        base_path = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=export.parents[1])))
        _put(export, base_path / "1")
        grpc_port, rest_port = free_port(), free_port()
        flags = (f"--port={grpc_port}", f"--rest_api_port={rest_port}")
        server = stack.enter_context(
            child(load.ours(base_path, *flags), seconds=_SECONDS, output=subprocess.DEVNULL)
        )
        url = f"http://127.0.0.1:{rest_port}/v1/models/MLP"
        load.wait_for(lambda: httpx.get(url))
        arguments = (str(rest_port), str(grpc_port))
        clients = [
            stack.enter_context(child(python("soaker.py", *arguments, str(seed)), seconds=_SECONDS))
            for seed in range(_CLIENTS)
        ]
        process = psutil.Process(server.pid)
        _ask(clients, first)
        before, start = process.memory_info().rss / _MB, perf_counter()
        reloading = _Reloading(url, export, base_path, reloads)
        reloading.start()
        _ask(clients, count - first)
        seconds = perf_counter() - start
        reloading.join()
        if reloading.failure:
            raise reloading.failure
        after = process.memory_info().rss / _MB
    what = f"{count:,} requests, {reloads} reloads"
    return [
        Row.of(
            f"{what}: memory, beside that at {first:,}", Unit.MEGABYTES, [(after, before)], _WANTED
        ),
        Row.alone(what, Unit.RATE, [(count - first) / seconds]),
    ]


def _ask(clients: Sequence["subprocess.Popen[str]"], count: int) -> None:
    for each in clients:
        tell(each, count // len(clients))
    wrong = [said for each in clients for said in report(each)]
    if wrong:
        raise click.ClickException(f"{len(wrong)} unexpected answers, e.g. {wrong[:3]}")


class _Reloading(threading.Thread):
    """Replaces version 1 with 2, 2 with 3, and so on, `count` times."""

    def __init__(self, url: str, export: Path, base_path: Path, count: int) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self._url, self._export, self._base_path, self._count = url, export, base_path, count

    def run(self) -> None:
        try:
            for version in range(1, self._count + 1):
                _put(self._export, self._base_path / str(version + 1))
                load.wait_for(lambda: self._ended(version))  # noqa: B023 - called at once
                shutil.rmtree(self._base_path / str(version))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits for this
            self.failure = error

    def _ended(self, version: int) -> None:
        answer = httpx.get(f"{self._url}/versions/{version}").json()
        if answer["model_version_status"][0]["state"] != "END":
            raise BlockingIOError(f"version {version} is still there")


def _put(export: Path, version: Path) -> None:
    """Adds a version as recommended: beside, then renamed."""
    beside = version.with_name("coming")
    shutil.copytree(export, beside, copy_function=os.link)
    beside.rename(version)
