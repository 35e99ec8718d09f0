"""Two processes (ours) and one (the peer) with `--workers`: requests, p99 and memory.

The load generator runs on the same cores as the workers: on two cores, three processes share
them.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from benchmarks.children import Report, child, python
from benchmarks.load import listening, load, ours
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_CONNECTIONS = 32
_SECONDS = 180
_MODELS = ("mlp", "mobilenetv2")
_QUICK = ("mlp",)
_HEAVY = "hundred"


def measure(*, quick: bool) -> list[Row]:
    """Rows for each compiled model, and the memory of two workers for 100 MB of weights."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as name:
        folder = Path(name)
        models = _QUICK if quick else _MODELS
        subprocess.run(python("models.py", name, *models, _HEAVY), check=True)
        for model in models:
            pairs = _pairs(_compiled(folder, model), _body(folder, model), quick=quick)
            what = f"2 workers, {model}, {_CONNECTIONS} connections"
            rates = [(two["rate"], one["rate"]) for two, one in pairs]
            tails = [(two["p99_ms"], one["p99_ms"]) for two, one in pairs]
            rows += [
                Row.of(what, Unit.RATE, rates),
                Row.of(f"{what}, p99", Unit.MILLISECONDS, tails),
            ]
        base_path, body = _compiled(folder, _HEAVY), _body(folder, _HEAVY)
        two, one = (_memory(base_path, body, workers) for workers in (2, 1))
    return [*rows, Row.of("2 workers, 100 MB of weights, PSS", Unit.MEGABYTES, [(two, one)])]


def _pairs(base_path: Path, body: str, *, quick: bool) -> Sequence[tuple[Report, Report]]:
    """The sides take turns; each run has its own server."""
    runs, seconds = (1, 1) if quick else (3, 5)
    sides = (ours(base_path, "--workers=2"), ours(base_path))
    found = []
    for _ in range(runs):
        two, one = (load(side, body, seconds, _CONNECTIONS) for side in sides)
        found.append((two, one))
    return found


def _compiled(folder: Path, model: str) -> Path:
    base_path = folder / "served" / model
    base_path.mkdir(parents=True)
    command = str(Path(sys.executable).with_name("lambda-serving"))
    arguments = ("compile", "--runtime=tensorflow", str(folder / model), str(base_path / "1"))
    subprocess.run([command, *arguments], check=True, capture_output=True)
    return base_path


def _body(folder: Path, model: str) -> str:
    body = folder / f"{model}.json"
    with np.load(folder / f"{model}.npz") as arrays:
        (rows,) = arrays.values()
    body.write_text(json.dumps({"instances": rows.round(3).astype(float).round(3).tolist()}))
    return str(body)


def _memory(base_path: Path, body: str, workers: int) -> float:
    """Megabytes of all processes of a server that has answered; shared memory counts once."""
    with child(ours(base_path, f"--workers={workers}"), seconds=_SECONDS) as server:
        listening(server, body, _CONNECTIONS)
        parent = psutil.Process(server.pid)
        processes = [parent, *parent.children()]
        return sum(each.memory_full_info().pss for each in processes) / 1e6
