"""Hot reloads of 100 MB under a steady load: the p99 of answers during them (ours).

The peer is the same server just before, for as long as a reload takes: from the arrival of the
version's folder until the old version is unloaded. Time counts from when a request was due.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from time import monotonic

import click
import httpx
import numpy as np
import orjson

from benchmarks import load
from benchmarks.children import child, python
from benchmarks.rows import Row, Unit
from support.load import Answer, steady

__all__ = ["measure"]

_MODEL = "hundred"
_RATE = 20
_BEFORE_SECONDS, _BEFORE_QUICK = 10, 4
_WANTED = 1 / 3


def measure(*, quick: bool) -> list[Row]:
    """p99 while versions 2 and 3 arrive; no request may fail."""
    runs, before = (1, _BEFORE_QUICK) if quick else (3, _BEFORE_SECONDS)
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as name:
        folder = Path(name)
        subprocess.run(python("models.py", name, _MODEL), check=True)
        with np.load(folder / f"{_MODEL}.npz") as arrays:
            [row] = arrays.values()
        body = orjson.dumps({"instances": row.round(3).tolist()})
        pairs = [_reloads(folder / _MODEL, body, before) for _ in range(runs)]
    what = f"{_RATE} requests/s while 100 MB reload, p99, beside before"
    return [Row.of(what, Unit.MILLISECONDS, pairs, _WANTED)]


def _reloads(export: Path, body: bytes, before: float) -> tuple[float, float]:
    """p99 in milliseconds during both reloads, and during the same time before."""
    with tempfile.TemporaryDirectory(dir=export.parent) as name:
        base_path = Path(name)
        _put(export, base_path / "1")
        with child(load.ours(base_path), seconds=load.SECONDS) as server:
            url = load.address(server)
            port = int(url.rpartition(":")[2])
            with steady(port, "/v1/models/MLP:predict", body, _RATE) as sent:
                Event().wait(before)
                windows = [_reload(url, export, base_path / str(version)) for version in (2, 3)]
    if failures := sent.failures():
        raise click.ClickException(f"{len(failures)} requests failed, e.g. {failures[0]}")
    start, seconds = windows[0][0], sum(end - begin for begin, end in windows)
    during = [each for window in windows for each in _due(sent.answers, *window)]
    return _p99(during), _p99(_due(sent.answers, start - seconds, start))


def _reload(url: str, export: Path, version: Path) -> tuple[float, float]:
    """When the folder was there, and when the previous version had gone."""
    _put(export, version)
    start, before = monotonic(), int(version.name) - 1

    def ended() -> None:
        answer = httpx.get(f"{url}/v1/models/MLP/versions/{before}").json()
        if answer["model_version_status"][0]["state"] != "END":
            raise BlockingIOError(f"version {before} is still there")

    load.wait_for(ended)
    return start, monotonic()


def _put(export: Path, version: Path) -> None:
    """Adds a version as recommended: beside, then renamed; with links, so that no copy counts."""
    beside = version.with_name("coming")
    shutil.copytree(export, beside, copy_function=os.link)
    beside.rename(version)


def _due(answers: Sequence[Answer], start: float, end: float) -> list[Answer]:
    return [each for each in answers if start <= each.due < end]


def _p99(answers: Sequence[Answer]) -> float:
    return float(1000 * np.percentile([each.ended - each.due for each in answers], 99))
