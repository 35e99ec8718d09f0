"""A batch job compared with a bare loop over the runtime, which neither reads nor writes.

The loop has the same rows in memory, joined into the same batches. The job also reads, decodes,
encodes and writes files. If JSON takes longer than the model, no overlap hides that, so JSON lines
have a second peer: the same loop with `json` and numpy.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.children import python
from benchmarks.rows import Row, Unit
from lambda_serving import batch_job
from lambda_serving.dtypes import Array
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable
from lambda_serving.store.job_files import open_inputs, open_outputs

__all__ = ["measure"]

_SIZES = {"mlp": (10_000, 64), "mobilenetv2": (96, 16)}
"""Rows of JSON lines, and rows of a batch, by model."""
_QUICK = ("mlp",)
_LONGER = {"mlp": 10, "mobilenetv2": 1}
"""How often the npz file repeats these rows, so that a run takes most of a second."""
_WANTED = 0.9
_Side = Callable[[], None]


def measure(*, quick: bool) -> list[Row]:
    """Rows a second of each model, from npz files and from JSON lines."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when the library is opened
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder:
        names = _QUICK if quick else tuple(_SIZES)
        subprocess.run(python("models.py", folder, *names), check=True)
        return [row for name in names for row in _rows(Path(folder), name, quick=quick)]


def _rows(folder: Path, name: str, *, quick: bool) -> list[Row]:
    rows, size = _SIZES[name]
    rows, runs = (rows // 10, 1) if quick else (rows, 5)
    with np.load(folder / f"{name}.npz") as one, saved_model.load(folder / name) as servable:
        [(inputs, row)] = one.items()
        array = np.random.default_rng(0).random((rows, *row.shape[1:]), np.float32)
        longer = np.concatenate([array] * _LONGER[name])
        (folder / name / "in").mkdir()
        np.savez(folder / name / "in/a.npz", allow_pickle=False, **{inputs: longer})
        lines = folder / name / "in/a.jsonl"
        with lines.open("w") as file:
            file.writelines(f"{json.dumps(each.tolist())}\n" for each in array)
        loop, longer_loop = (_loop(servable, inputs, each, size) for each in (array, longer))
        naive = _naive(servable, inputs, lines, size)
        columns, text = (_job(servable, lines.with_name(file), size) for file in _FILES)
        return [
            _row(
                f"{name}, npz, beside a bare loop", _WANTED, len(longer), runs, columns, longer_loop
            ),
            _row(f"{name}, JSON lines, beside a bare loop", None, rows, runs, text, loop),
            _row(f"{name}, JSON lines, beside json and numpy", 1, rows, runs, text, naive),
        ]


_FILES = ("a.npz", "a.jsonl")


def _job(servable: Servable, path: Path, size: int) -> _Side:
    """A function that runs the job on one file, from the start each time."""

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
            inputs, outputs = open_inputs(str(path)), open_outputs(folder)
            made = batch_job.Job(servable, "digest", batch_size=size)
            [done] = batch_job.run(made, inputs, outputs, inputs.find())
            assert done.rows
            assert not done.bad_rows

    return run


def _loop(servable: Servable, name: str, rows: Array, size: int) -> _Side:
    def run() -> None:
        for start in range(0, len(rows), size):
            servable.run("", {name: rows[start : start + size]})

    return run


def _naive(servable: Servable, name: str, lines: Path, size: int) -> _Side:
    def answer(batch: Sequence[str]) -> list[str]:
        rows = np.array([json.loads(line) for line in batch], np.float32)
        [output] = servable.run("", {name: rows}).values()
        return [json.dumps(each) + "\n" for each in output.tolist()]

    def run() -> None:
        batch: list[str] = []
        with lines.open() as file, tempfile.TemporaryFile("w") as made:
            for line in file:
                batch.append(line)
                if len(batch) == size:
                    made.writelines(answer(batch))
                    batch.clear()
            if batch:
                made.writelines(answer(batch))

    return run


def _row(what: str, wanted: float | None, rows: int, runs: int, ours: _Side, peer: _Side) -> Row:
    """Rows a second of both sides in turn; the first turn of each does not count."""
    _, *pairs = [(_rate(rows, ours), _rate(rows, peer)) for _ in range(1 + runs)]
    return Row.of(what, Unit.ROWS, pairs, wanted)


def _rate(rows: int, side: _Side) -> float:
    start = perf_counter()
    side()
    return rows / (perf_counter() - start)
