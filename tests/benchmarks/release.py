"""A release: the time from push to live, the bytes sent to the registry, later requests to S3.

`updates.py` and `idle.py` run it on stand-ins for AWS: no figure includes the time that Lambda
takes to prepare a version. TensorFlow Serving has no such steps; it polls its base path instead.
"""

import subprocess
import tempfile
from pathlib import Path

from benchmarks.children import MNIST, Report, child, python, report
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_SECONDS = 1200
_POLLS_AN_HOUR = 3600  # of TensorFlow Serving: --file_system_poll_wait_seconds is 1 by default
_REQUESTS_WANTED = 100  # an hour, of ten models


def measure(*, quick: bool) -> list[Row]:
    """Rows for each model's updates after its first version, and one for idle models."""
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder:
        rows = _update_rows("mlp", MNIST / "saved/1", 1 if quick else 4)
        if not quick:
            subprocess.run(python("models.py", folder, "resnet50"), check=True)
            rows += _update_rows("resnet50", Path(folder, "resnet50"), 3)
    return [*rows, _idle_row(2, 1) if quick else _idle_row(10, 3)]


def _update_rows(name: str, export: Path, pushes: int) -> list[Row]:
    """Rows without the first push, which starts the release function and has its own row."""
    first, *others = _report("updates.py", str(export), str(pushes))["updates"]
    updates = others or [first]
    steps = {step: [update["steps"][step] for update in updates] for step in first["steps"]}
    totals = [sum(update["steps"].values()) for update in updates]
    sizes = [(update["sent"] / 1e6, update["layer"] / 1e6) for update in updates]
    return [
        Row.alone(f"{name}: push to live, without Lambda's own time", Unit.MILLISECONDS, totals),
        *(Row.alone(f"{name}: of it, {step}", Unit.MILLISECONDS, steps[step]) for step in steps),
        Row.alone(
            f"{name}: first look, the function started by the push",
            Unit.MILLISECONDS,
            [first["steps"]["first look"]],
        ),
        Row.of(f"{name}: sent to the registry, peer its layer", Unit.MEGABYTES, sizes, 1.01),
    ]


def _idle_row(models: int, versions: int) -> Row:
    """The peer's requests are computed: one listing of each model at each poll."""
    asked = sum(_report("idle.py", str(models), str(versions))["requests"].values())
    polls = models * _POLLS_AN_HOUR
    wanted = _REQUESTS_WANTED / (10 * _POLLS_AN_HOUR)
    what = f"S3 in an hour, {models} idle models, peer computed: a poll a second"
    return Row.of(what, Unit.REQUESTS, [(asked, polls)], wanted)


def _report(script: str, *arguments: str) -> Report:
    """What the script prints once it has stopped everything that it started."""
    with child(python(script, *arguments), seconds=_SECONDS) as process:
        return report(process)
