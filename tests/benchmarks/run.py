"""Our speed compared with the peers', as tables in Markdown and as JSON.

No figure makes the run fail: machines differ, so a missed ratio is only shown. `image`, which
needs Docker, and `runtimes` and `stalls`, which take an hour, run only if they are named.
"""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it: this is a script

from benchmarks import (
    batching,
    codec,
    compiled,
    image,
    job,
    late,
    litert,
    load,
    release,
    reload,
    rpc,
    runtimes,
    servers,
    soak,
    stalls,
    start,
    warm,
    workers,
)
from benchmarks.prepared import MODELS
from benchmarks.rows import Row
from benchmarks.tables import markdown, missed

_BENCHMARKS = {
    "litert": litert,
    "start": start,
    "compiled": compiled,
    "warm": warm,
    "codec": codec,
    "late": late,
    "load": load,
    "servers": servers,
    "grpc": rpc,
    "reload": reload,
    "soak": soak,
    "release": release,
    "job": job,
    "batching": batching,
    "workers": workers,
    "runtimes": runtimes,
    "stalls": stalls,
    "image": image,
}
_UNNAMED = tuple(name for name in _BENCHMARKS if name not in {"image", "runtimes", "stalls"})
_JSON = Path(__file__).parents[2] / "build/bench.json"


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(_BENCHMARKS)))
@click.option(
    "--quick", is_flag=True, help="Only check that the benchmarks run: the figures mean little"
)
@click.option("--prepare", is_flag=True, help="Only make the models of `litert` and `start`")
@click.option(
    "--json",
    "path",
    default=_JSON,
    type=click.Path(path_type=Path),
    help="Where to write the report",
)
def _main(names: Sequence[str], path: Path, *, quick: bool, prepare: bool) -> None:
    if prepare:
        for model in MODELS.values():
            model.prepare()
        return
    machine = _machine()
    click.echo(", ".join(f"{name}: {value}" for name, value in machine.items()))
    rows: list[Row] = []
    for name in names or _UNNAMED:
        click.echo(f"{name} ...", err=True)
        start = perf_counter()
        found = _BENCHMARKS[name].measure(quick=quick)
        click.echo(f"\n## {name}, {perf_counter() - start:.0f} s\n\n{markdown(found)}")
        rows += found
    for line in missed(rows):
        click.echo(line, err=True)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine,
        "rows": [row.document() for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "tensorflow": version("tensorflow-cpu"),
        "litert": version("ai-edge-litert"),
    }


def _cpu() -> str:
    """The processor's name from Linux, or what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


if __name__ == "__main__":
    _main()
