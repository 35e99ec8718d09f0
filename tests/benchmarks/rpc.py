"""Predict with 1,000 float32 from Python clients: gRPC (ours) and our own REST (the peer).

Each client is a process with one connection, which makes requests from arrays and arrays from
answers: this compares the whole way, not only the server.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import load
from benchmarks.children import Report, child, python, report, tell
from benchmarks.rows import Row, Unit
from support.rpc_client import free_port

__all__ = ["measure"]

_CLIENTS = (1, 8)
_WANTED = 1.5


def measure(*, quick: bool) -> list[Row]:
    """Requests a second of all clients, and their p99, on one server; the sides take turns."""
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder:
        subprocess.run(python("models.py", folder, "halves"), check=True)
        base_path, port = Path(folder) / "served", free_port()
        base_path.mkdir()
        (Path(folder) / "halves").rename(base_path / "1")
        with child(load.ours(base_path, f"--port={port}"), seconds=load.SECONDS) as server:
            rest = load.address(server).removeprefix("http://")
            addresses = {"grpc": f"127.0.0.1:{port}", "rest": rest}
            return [row for count in _CLIENTS for row in _rows(addresses, count, quick=quick)]


def _rows(addresses: dict[str, str], count: int, *, quick: bool) -> list[Row]:
    runs, seconds = (1, 1) if quick else (3, 5)
    with ExitStack() as stack:
        clients = {
            side: [
                stack.enter_context(child(python("callers.py", side, to), seconds=load.SECONDS))
                for _ in range(count)
            ]
            for side, to in addresses.items()
        }
        _, *pairs = [
            (_asked(clients["grpc"], seconds), _asked(clients["rest"], seconds))
            for _ in range(1 + runs)
        ]
    what = f"1,000 float32, {count} clients, gRPC beside REST"
    rates = [(ours["rate"], peer["rate"]) for ours, peer in pairs]
    tails = [(ours["p99_ms"], peer["p99_ms"]) for ours, peer in pairs]
    return [
        Row.of(what, Unit.RATE, rates, _WANTED),
        Row.of(f"{what}, p99", Unit.MILLISECONDS, tails),
    ]


def _asked(clients: Sequence["subprocess.Popen[str]"], seconds: int) -> Report:
    """The joint report of clients that ask at the same time."""
    for each in clients:
        tell(each, seconds)
    reports = [report(each) for each in clients]
    return {
        "rate": sum(each["rate"] for each in reports),
        "p99_ms": max(each["p99_ms"] for each in reports),
    }
