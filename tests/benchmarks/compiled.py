"""Compiled servables, from the spawn of a process until it has settled.

There are two peers: Python TensorFlow with the export, and our own runtime with the export, which
does what TensorFlow Serving does. Each run is a fresh process; the sides take turns.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import click
import numpy as np

from benchmarks.children import Report, child, python, report
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_SECONDS = 300
_COMMAND = Path(sys.executable).with_name("lambda-serving")
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The targets, in the form of `Row.wanted`.

    The last ratio compares with the export in our runtime. `calls` are timed for a warm answer.
    """

    first: float
    peak: float
    warm: float
    memory: float
    first_over_export: float
    calls: int = 100


_SMALL = _Wanted(4.5, 0.65, 3, 0.7, 1, calls=1000)
_MODELS = {
    "mlp": _SMALL,
    "text": _SMALL,
    "examples": _SMALL,
    "mobilenetv2": _Wanted(6, 0.7, 1.2, 0.8, 3),
    "efficientnetb0": _Wanted(7, 0.7, 1.2, 0.8, 3),
    "resnet50": _Wanted(6, 0.6, 1.15, 1.1, 4),
}
_QUICK = ("text",)


def measure(*, quick: bool) -> list[Row]:
    """Rows for each model: first answer, peak memory until then, warm answers, settled memory."""
    names = _QUICK if quick else tuple(_MODELS)
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder:
        subprocess.run(python("models.py", folder, *names), check=True)
        return [row for name in names for row in _rows(Path(folder), name, quick=quick)]


def _rows(folder: Path, name: str, *, quick: bool) -> list[Row]:
    runs, wanted = (1 if quick else 6), _MODELS[name]
    export, compiled = folder / name, folder / "compiled" / name
    start = perf_counter()
    subprocess.run(
        [_COMMAND, "compile", "--runtime=tensorflow", export, compiled],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = perf_counter() - start
    settling = ("0.2", "20") if quick else ("3", str(wanted.calls))
    commands = {
        side: python("life.py", *arguments, f"{export}.npz", *settling)
        for side, arguments in (
            ("ours", ("ours", str(compiled))),
            ("export", ("ours", str(export))),
            ("peer", ("peer", str(export))),
        )
    }
    lives = [{side: _life(command) for side, command in commands.items()} for _ in range(runs)]
    lives = lives[1:] or lives  # the first ones only fill the page cache
    _check_same(lives[0])
    against = [(each["ours"], each["peer"]) for each in lives]
    over_export = [(each["ours"], each["export"]) for each in lives]
    rows = [
        _row(f"{name}: first answer", Unit.MILLISECONDS, against, "first", wanted.first),
        _row(f"{name}: peak memory by then", Unit.MEGABYTES, against, "peak", wanted.peak),
        _row(f"{name}: warm answer", Unit.MILLISECONDS, against, "warm", wanted.warm),
        _row(f"{name}: memory settled", Unit.MEGABYTES, against, "memory", wanted.memory),
        _row(
            f"{name}: first answer, peer the export in our runtime",
            Unit.MILLISECONDS,
            over_export,
            "first",
            wanted.first_over_export,
        ),
    ]
    if not quick and os.access(_DROP_CACHES, os.W_OK):
        rows += _cold_rows(name, commands)
    click.echo(f"{name}: compiled in {seconds:.1f} s", err=True)
    return rows


def _cold_rows(name: str, commands: Mapping[str, list[str]]) -> list[Row]:
    """The first answer when no library and no model is in the page cache."""
    lives = [
        {side: _life(command, from_disk=True) for side, command in commands.items()}
        for _ in range(3)
    ]
    pairs = [(each["ours"], each["peer"]) for each in lives]
    return [_row(f"{name}: first answer, page cache dropped", Unit.MILLISECONDS, pairs, "first")]


def _life(command: list[str], *, from_disk: bool = False) -> Report:
    if from_disk:
        os.sync()
        _DROP_CACHES.write_text("3")
    start = perf_counter()
    with child(command, seconds=_SECONDS) as process:
        first = report(process)
        milliseconds = 1000 * (perf_counter() - start)
        if from_disk:
            return {"first": milliseconds}
        settled = report(process)
    return {
        "answer": first["answer"],
        "first": milliseconds,
        "peak": first["peak_kib"] * 1024 / 1e6,
        "warm": 1000 * float(np.median(settled["seconds"])),
        "memory": settled["kib"] * 1024 / 1e6,
    }


def _check_same(lives: Mapping[str, Report]) -> None:
    """Raises ClickException if the sides answer differently."""
    wanted = lives["peer"]["answer"]
    for side, life in lives.items():
        if not all(np.allclose(life["answer"][key], wanted[key], atol=1e-4) for key in wanted):
            raise click.ClickException(f"The answers differ: {side} {life['answer']}")


def _row(
    what: str, unit: Unit, pairs: list[tuple[Report, Report]], key: str, wanted: float | None = None
) -> Row:
    return Row.of(what, unit, [(ours[key], peer[key]) for ours, peer in pairs], wanted)
