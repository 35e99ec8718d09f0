"""LiteRT, as we serve it, beside the other ways to run the same model in a process.

They are our compiled folders with TensorFlow, LiteRT's own interpreter with the same file, `import
tensorflow` with the export, and ONNX Runtime with the model as tf2onnx converts it.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from subprocess import Popen
from time import perf_counter

import click
import numpy as np

from benchmarks.children import Report, child, python, read_only, report, tell
from benchmarks.prepared import MODELS, PEERS_PYTHON, Model
from benchmarks.rows import Row, Unit, samples

__all__ = ["measure"]

_SECONDS = 300
_OURS, _TENSORFLOW, _BARE = "ours", "ours, TensorFlow", "LiteRT's interpreter"
_PEER, _ONNX = "`import tensorflow`", "ONNX Runtime"
_PROGRAMS = {
    _OURS: "ours",
    _TENSORFLOW: "ours",
    _BARE: "bare",
    _PEER: "tensorflow",
    _ONNX: "onnx",
}
"""What each side is to `alone.py`."""
_START = {_TENSORFLOW: 1, _BARE: 1 / 1.15, _ONNX: 1}
_START_BESIDE_PEER = {"digits": 20, "mobilenetv2": 20, "efficientnetb0": 20, "resnet50": 12}
_PEAK = {_TENSORFLOW: 1, _ONNX: 1}
_WARM = {_TENSORFLOW: 1 / 1.03, _BARE: 1 / 1.03, _ONNX: 1 / 1.1}
_WARM_BESIDE_PEER = {"digits": 15, "mobilenetv2": 2.5, "efficientnetb0": 2.5, "resnet50": 1.5}
_ROWS = (1, 8)
_QUICK = ("digits",)

_Commands = Mapping[str, Sequence[str]]


def measure(*, quick: bool) -> list[Row]:
    """For each model: start to first answer, peak memory until then, and warm answers.

    Starts have as many threads as each runtime takes by itself; warm answers have one, and one for
    each core.
    """
    if not PEERS_PYTHON.exists() and not quick:
        raise click.ClickException("ONNX Runtime is missing: make .venv-peers/.done")
    models = [MODELS[name] for name in (_QUICK if quick else MODELS)]
    return [row for model in models for row in _rows(model, quick=quick)]


def _rows(model: Model, *, quick: bool) -> list[Row]:
    litert, tensorflow = (model.compiled(runtime) for runtime in ("litert", "tensorflow"))
    with ExitStack() as stack:
        served = str(stack.enter_context(read_only(litert)) / "1")
        folders = {
            _OURS: served,
            _TENSORFLOW: str(stack.enter_context(read_only(tensorflow)) / "1"),
            _BARE: served,
            _PEER: str(model.export() / "1"),
        }
        if PEERS_PYTHON.exists():
            folders[_ONNX] = str(model.onnx() / "1")
        rows = _start_rows(model, _commands(model, folders, 0), rounds=0 if quick else 5)
        for threads in (1,) if quick else sorted({1, os.cpu_count() or 1}):
            commands = _commands(model, folders, threads)
            rows += _warm_rows(model, commands, threads, quick=quick)
        return rows


def _commands(model: Model, folders: Mapping[str, str], threads: int) -> _Commands:
    row = ",".join(map(str, model.row))
    commands = {
        side: python("alone.py", _PROGRAMS[side], folder, str(threads), row)
        for side, folder in folders.items()
    }
    if _ONNX in commands:
        commands[_ONNX][0] = str(PEERS_PYTHON)
    return commands


def _start_rows(model: Model, commands: _Commands, rounds: int) -> list[Row]:
    """Each round starts a process of each side; one round before only fills the page cache."""
    found = [{side: _start(each) for side, each in commands.items()} for _ in range(1 + rounds)]
    found = found[1:] or found
    _check_same(found[0])
    wanted = {**_START, _PEER: _START_BESIDE_PEER[model.name]}
    start, peak = f"{model.title}: start to first answer", f"{model.title}: peak memory by then"
    return [
        *Row.each(start, Unit.MILLISECONDS, samples(found, "first"), wanted),
        *Row.each(peak, Unit.MEGABYTES, samples(found, "peak"), _PEAK),
    ]


def _start(command: Sequence[str]) -> Report:
    start = perf_counter()
    with child(command, seconds=_SECONDS) as process:
        found = report(process)
        first = 1000 * (perf_counter() - start)
    return {"answer": found["answer"], "first": first, "peak": found["peak_kib"] * 1024 / 1e6}


def _warm_rows(model: Model, commands: _Commands, threads: int, *, quick: bool) -> list[Row]:
    """All sides have answered before; then they answer in turn, the others idle."""
    rounds, seconds = (1, 0.05) if quick else (5, 0.25)
    with ExitStack() as stack:
        sides = {
            side: stack.enter_context(child(command, seconds=_SECONDS))
            for side, command in commands.items()
        }
        for process in sides.values():
            report(process)
        rows = []
        for count in _ROWS:
            found = [
                {side: _block(process, count, seconds) for side, process in sides.items()}
                for _ in range(1 + rounds)
            ]
            what = f"{model.title}: warm, {_plural(count, 'row')}, {_plural(threads, 'thread')}"
            wanted = {**_WARM, _PEER: _WARM_BESIDE_PEER[model.name]}
            rows += Row.each(what, Unit.MILLISECONDS, samples(found[1:], "milliseconds"), wanted)
    return rows


def _block(process: Popen[str], rows: int, seconds: float) -> Report:
    tell(process, f"{rows} {seconds}")
    return report(process)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _check_same(sides: Mapping[str, Report]) -> None:
    """Raises ClickException if the sides answer differently."""
    wanted = sides[_PEER]["answer"]
    for side, found in sides.items():
        if not np.allclose(found["answer"], wanted, atol=1e-4):
            raise click.ClickException(f"{side} answers {found['answer']}, TensorFlow {wanted}")
