"""Requests of one row from 64 clients: joined (ours) and each on its own (the peer).

Measures the server, with JSON and HTTP, and the servable in this process, called by 64 threads.
The sides take turns.
"""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.children import Report, ask, child, python
from benchmarks.load import load, ours
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_CLIENTS = 64
_SECONDS = 600
_WANTED = {"layers": 3.0, "mobilenetv2": 1.0}
_QUICK = {"layers": 3.0}


def measure(*, quick: bool) -> list[Row]:
    """Rows a second and the p99 of answers, for each model, through the server and in process."""
    wanted = _QUICK if quick else _WANTED
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as name:
        folder = Path(name)
        subprocess.run(python("models.py", name, *wanted), check=True)
        found = []
        for model, least in wanted.items():
            base_path = folder / "served" / model
            base_path.mkdir(parents=True)
            (folder / model).rename(base_path / "1")
            inputs = folder / f"{model}.npz"
            found += _rows(f"{model}, server", _served(base_path, inputs, quick=quick), least)
            found += _rows(f"{model}, in process", _called(base_path, inputs, quick=quick), least)
    return found


Pairs = Sequence[tuple[Report, Report]]


def _rows(what: str, pairs: Pairs, least: float) -> list[Row]:
    rates = [(joined["rate"], alone["rate"]) for joined, alone in pairs]
    tails = [(joined["p99_ms"], alone["p99_ms"]) for joined, alone in pairs]
    what = f"{_CLIENTS} clients, {what}"
    return [
        Row.of(what, Unit.RATE, rates, least),
        Row.of(f"{what}, p99", Unit.MILLISECONDS, tails, 1),
    ]


def _served(base_path: Path, inputs: Path, *, quick: bool) -> Pairs:
    """Each run has its own server, after some seconds of load."""
    runs, warm, seconds = (1, 1, 1) if quick else (3, 3, 5)
    body = base_path.with_suffix(".json")
    with np.load(inputs) as arrays:
        (rows,) = arrays.values()
    body.write_text(json.dumps({"instances": rows.round(3).astype(float).round(3).tolist()}))
    sides = (ours(base_path, "--enable_batching"), ours(base_path))
    pairs = []
    for _ in range(runs):
        joined, alone = (load(each, str(body), seconds, _CLIENTS, warm) for each in sides)
        pairs.append((joined, alone))
    return pairs


def _called(base_path: Path, inputs: Path, *, quick: bool) -> Pairs:
    """Both sides are loaded once; they answer for some seconds in turn."""
    runs, seconds = (1, 1) if quick else (3, 3)
    arguments = (str(base_path / "1"), str(inputs), str(_CLIENTS))
    with (
        child(python("clients.py", "joined", *arguments), seconds=_SECONDS) as joined,
        child(python("clients.py", "alone", *arguments), seconds=_SECONDS) as alone,
    ):
        sides = (joined, alone)
        for side in sides:  # to warm it up
            ask(side, seconds)
        return [(ask(joined, seconds), ask(alone, seconds)) for _ in range(runs)]
