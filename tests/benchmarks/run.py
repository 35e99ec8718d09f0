"""Our speed compared with the peer's, as a table and as JSON.

No figure makes the run fail: machines differ, so a missed ratio is only shown. `image`, which
needs Docker, and `runtimes` and `stalls`, which take an hour, run only if they are named.
"""

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it: this is a script

from benchmarks import (
    batching,
    codec,
    compiled,
    image,
    job,
    late,
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
from benchmarks.rows import Figure, Row

_BENCHMARKS = {
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
@click.option(
    "--json",
    "path",
    default=_JSON,
    type=click.Path(path_type=Path),
    help="Where to write the report",
)
def _main(names: Sequence[str], path: Path, *, quick: bool) -> None:
    console = Console()
    rows: list[Row] = []
    for name in names or _UNNAMED:
        with console.status(f"{name} ..."):
            rows += _BENCHMARKS[name].measure(quick=quick)
    console.print(_table(rows))
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": _machine(),
        "rows": [row.document() for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def _table(rows: Iterable[Row]) -> Table:
    table = Table("what", "ours", "peer", "ratio", "wanted", title="Ours beside the peer's")
    for row in rows:
        table.add_row(
            row.what,
            *(_figure(side, row) for side in (row.ours, row.peer)),
            ""
            if row.ratio is None
            else f"[{'green' if row.reached else 'red'}]{_ratio(row.ratio)}",
            _wanted(row),
        )
    return table


def _figure(figure: Figure | None, row: Row) -> str:
    return f"{_number(figure.value)} {row.unit.value}" if figure else ""


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.2g}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _wanted(row: Row) -> str:
    if row.wanted is None:
        return ""
    return f"{'<=' if row.is_share else '>='} {row.wanted:.3g}"


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "tensorflow": version("tensorflow-cpu"),
    }


def _cpu() -> str:
    """The processor's name from Linux, or what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


if __name__ == "__main__":
    _main()
