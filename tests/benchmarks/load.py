"""Requests a second over keep-alive connections, one server process at a time."""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import click
import httpx

from benchmarks.children import HERE, MNIST, Report, child, request_body
from benchmarks.prepared import MODELS
from benchmarks.rows import Row, Unit, samples

__all__ = ["SECONDS", "address", "listening", "load", "measure", "ours", "wait_for", "wrk"]

SECONDS = 180
"""The longest time for a server to start, and for its load to end."""
_CONNECTIONS = 8
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
_PEER = [sys.executable, "-m", "uvicorn", "benchmarks.peer:app", "--port=0"]
_PEER += ["--no-access-log"]  # as ours


def ours(base_path: Path, *flags: str) -> list[str]:
    """The command of our server, with the model MLP that `load` asks for."""
    command = str(Path(sys.executable).with_name("lambda-serving"))
    fixed = ["serve", "--model_name=MLP", "--rest_api_port=0", "--port=0"]
    fixed.append(f"--model_base_path={base_path}")
    return [command, *fixed, *flags]


def measure(*, quick: bool) -> list[Row]:
    """Three runs of each side in turn, each with its own server; ours compiled for LiteRT."""
    runs, seconds = (1, 1) if quick else (3, 5)
    sides = {
        "ours": ours(MODELS["digits"].compiled("litert")),
        "ours, TensorFlow": ours(MNIST / "saved"),
        "peer": _PEER,
    }
    with tempfile.NamedTemporaryFile(suffix=".json") as body:
        Path(body.name).write_bytes(request_body())
        rounds = [
            {side: load(command, body.name, seconds) for side, command in sides.items()}
            for _ in range(runs)
        ]
    what = f"digits, {_CONNECTIONS} connections"
    return [
        *Row.each(what, Unit.RATE, samples(rounds, "rate"), {"peer": 2}),
        *Row.each(f"{what}, p99", Unit.MILLISECONDS, samples(rounds, "p99_ms")),
    ]


def load(
    command: Sequence[str], body: str, seconds: int, connections: int = _CONNECTIONS, warm: int = 1
) -> Report:
    """The load that a fresh server handles, after `warm` seconds of load."""
    with child(command, seconds=SECONDS) as server:
        url = listening(server, body, connections, warm)
        return wrk(url, body, seconds, connections)


def listening(
    server: subprocess.Popen[str], body: str, connections: int = _CONNECTIONS, warm: int = 1
) -> str:
    """The predict URL of a server, after `warm` seconds of load."""
    url = f"{address(server)}/v1/models/MLP:predict"
    wrk(url, body, warm, connections)
    return url


def address(server: subprocess.Popen[str]) -> str:
    """The address that a server reports once it listens."""
    said = []
    for line in server.stderr or ():
        said.append(line)
        if match := _ADDRESS.search(line):
            wait_for(lambda: socket.create_connection(("127.0.0.1", int(match[1]))).close())
            return match[0]
    raise click.ClickException(f"{server.args!r} ended early:\n{''.join(said)}")


def wait_for(probe: Callable[[], object]) -> None:
    """Retries `probe` until it raises no connection error."""
    deadline, pause = monotonic() + SECONDS, threading.Event()
    while True:
        try:
            probe()
        except (OSError, httpx.HTTPError):
            if monotonic() > deadline:
                raise
            pause.wait(0.01)
        else:
            return


def wrk(url: str, body: str, seconds: int, connections: int) -> Report:
    """POSTs of the file `body`: `rate`, requests a second, and `p99_ms`; all must succeed."""
    program = shutil.which("wrk")
    if program is None:
        raise click.ClickException("wrk is not on PATH. Install it, e.g. apt-get install wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}", f"--timeout={SECONDS}"]
    command += [f"-s{HERE / 'post.lua'}", url, "--", body]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    if ended.returncode:
        raise click.ClickException(f"wrk failed:\n{ended.stdout}{ended.stderr}")
    found: Report = json.loads(ended.stdout.splitlines()[-1])
    if found["failures"]:
        raise click.ClickException(f"{found['failures']} requests to {url} failed:\n{ended.stdout}")
    return {**found, "rate": found["requests"] / found["seconds"]}
