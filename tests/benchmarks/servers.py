"""Our server compared with others for the same export, each set up by its own documentation.

Each request is one MNIST digit, in JSON as each server reads it, over keep-alive connections. Each
other server has the number of worker processes, at most one for each core, with which it is fastest
here. Ours is one process with the model compiled for LiteRT; ours with the export, in TensorFlow,
is beside it. BentoML, LitServe and MLServer have their own virtual environment, `make
.venv-peers/.done`; without it a quick run leaves them out.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np

from benchmarks import load
from benchmarks.children import HERE, MNIST, Report, child, request_body
from benchmarks.prepared import MODELS, PEERS_PYTHON
from benchmarks.rows import Row, Unit, samples
from support.rpc_client import free_port

__all__ = ["measure"]

_CONNECTIONS = 32
_BIN = PEERS_PYTHON.parent
_PEERS = HERE / "peers"
_MODEL = MNIST / "saved/1"


@dataclass(frozen=True, slots=True)
class _Server:
    """A server, its request, and the place of the predictions in its answer.

    `command` takes a port, a number of workers and a folder; `workers` are the numbers to try.
    """

    name: str
    command: Callable[[int, int, Path], Sequence[str]]
    workers: Sequence[int]
    path: str
    body: Any
    predictions: Callable[[Any], Any]
    wanted: float = 2


def measure(*, quick: bool) -> list[Row]:
    """Requests a second and p99, ours compared with each; the sides take turns."""
    runs, seconds = (1, 1) if quick else (3, 5)
    servers = _servers()
    if not PEERS_PYTHON.exists():
        if not quick:
            raise click.ClickException("The other servers are missing: make .venv-peers/.done")
        servers = [each for each in servers if each.name in {_OURS, _TENSORFLOW, _NAIVE}]
    _check_same(*servers)
    best = {each.name: _best(each, seconds) for each in servers}
    rounds = [
        {_title(each, best): _loaded(each, best[each.name], seconds) for each in servers}
        for _ in range(runs)
    ]
    wanted = {_title(each, best): each.wanted for each in servers}
    what, tails = f"digits, {_CONNECTIONS} connections", dict.fromkeys(wanted, 1.0)
    return [
        *Row.each(what, Unit.RATE, samples(rounds, "rate"), wanted),
        *Row.each(f"{what}, p99", Unit.MILLISECONDS, samples(rounds, "p99_ms"), tails),
    ]


def _title(server: _Server, workers: Mapping[str, int]) -> str:
    """A column's title, with the number of workers if there was a choice."""
    count = workers[server.name]
    return f"{server.name} ({count} workers)" if len(server.workers) > 1 else server.name


_OURS, _TENSORFLOW, _NAIVE = "ours", "ours, TensorFlow", "FastAPI"


def _servers() -> list[_Server]:
    """All servers, ours first."""
    body = json.loads(request_body())
    rows = body["instances"]
    open_inference = {
        "name": "keras_tensor",
        "shape": list(np.shape(rows)),
        "datatype": "FP32",
        "data": np.ravel(rows).tolist(),
    }
    predictions, path = itemgetter("predictions"), "/v1/models/MLP:predict"
    return [
        _Server(_OURS, _litert, (1,), path, body, predictions),
        _Server(_TENSORFLOW, _export, (1,), path, body, predictions, wanted=1),
        _Server("BentoML", _bentoml, (1, 2), "/predict", {"rows": rows}, list),
        _Server("LitServe", _litserve, (1, 2), "/predict", {"rows": rows}, predictions),
        _Server(
            "MLServer",
            _mlserver,
            (0, 1, 2),
            "/v2/models/digits/infer",
            {"inputs": [open_inference]},
            lambda answer: [answer["outputs"][0]["data"]],
        ),
        _Server(_NAIVE, _fastapi, (1, 2), path, body, predictions, wanted=3),
    ]


def _litert(port: int, _: int, __: Path) -> list[str]:
    return load.ours(MODELS["digits"].compiled("litert"), f"--rest_api_port={port}")


def _export(port: int, _: int, __: Path) -> list[str]:
    return load.ours(MNIST / "saved", f"--rest_api_port={port}")


def _bentoml(port: int, workers: int, folder: Path) -> list[str]:
    settings = (f"WORKERS={workers}", f"MODEL={_MODEL}", f"BENTOML_HOME={folder}")
    command = [str(_BIN / "bentoml"), "serve", "bentoml_service:Digits", f"--port={port}"]
    return ["env", "BENTOML_DO_NOT_TRACK=1", *settings, *command, f"--working-dir={_PEERS}"]


def _litserve(port: int, workers: int, _: Path) -> list[str]:
    script = str(_PEERS / "litserve_server.py")
    return [str(_BIN / "python"), script, str(port), str(workers), str(_MODEL)]


def _mlserver(port: int, workers: int, folder: Path) -> list[str]:
    """With 0 workers, the process that answers HTTP predicts."""
    shutil.copy(_PEERS / "mlserver_runtime.py", folder)
    settings = {
        "debug": False,  # or it writes a line for each request
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "metrics_dir": str(folder),
        "parallel_workers": workers,
    }
    model = {
        "name": "digits",
        "implementation": "mlserver_runtime.Digits",
        "parameters": {"uri": str(_MODEL)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(_BIN / "mlserver"), "start", str(folder)]


def _fastapi(port: int, workers: int, _: Path) -> list[str]:
    server = [sys.executable, "-m", "uvicorn", "benchmarks.peer:app", "--no-access-log"]
    return [*server, f"--port={port}", f"--workers={workers}"]


def _best(server: _Server, seconds: int) -> int:
    """The number of workers with which a server answers the most requests."""
    if len(server.workers) == 1:
        return server.workers[0]
    return max(server.workers, key=lambda each: _loaded(server, each, seconds)["rate"])


def _loaded(server: _Server, workers: int, seconds: int) -> Report:
    """The load that a fresh server handles in `seconds`, after half that time of load."""
    with ExitStack() as stack:
        url = _started(server, workers, stack)
        with tempfile.NamedTemporaryFile(suffix=".json") as body:
            Path(body.name).write_bytes(json.dumps(server.body).encode())
            load.wrk(url, body.name, max(1, seconds // 2), _CONNECTIONS)
            return load.wrk(url, body.name, seconds, _CONNECTIONS)


def _check_same(ours: _Server, *others: _Server) -> None:
    """Raises ClickException if a server does not predict what ours does."""
    expected = _prediction(ours)
    for other in others:
        if not np.allclose(predicted := _prediction(other), expected, atol=1e-5):
            raise click.ClickException(f"{other.name} predicts {predicted}, ours {expected}")


def _prediction(server: _Server) -> Any:
    with ExitStack() as stack:
        url = _started(server, server.workers[-1], stack)
        answer = _post(url, server.body)
        return np.reshape(server.predictions(answer), (1, 10))


def _started(server: _Server, workers: int, stack: ExitStack) -> str:
    """The URL of a server, once it has answered; its output is discarded."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lambda-serving-bench-"))
    port = free_port()
    command = server.command(port, workers, Path(folder))
    stack.enter_context(child(command, seconds=load.SECONDS, output=subprocess.DEVNULL))
    url = f"http://127.0.0.1:{port}{server.path}"
    load.wait_for(partial(_post, url, server.body))
    return url


def _post(url: str, body: Any) -> Any:
    return httpx.post(url, json=body, timeout=load.SECONDS).raise_for_status().json()
