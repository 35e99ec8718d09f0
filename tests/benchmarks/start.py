"""From the spawn of a process to its first prediction, with its peak memory."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from subprocess import Popen
from time import perf_counter

from benchmarks.children import MNIST, Report, ask, check_same, child, python, report, request_body
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_SECONDS = 120


def measure(*, quick: bool) -> list[Row]:
    """The runtime alone, and the application with one request in process, in turn."""
    runs = 1 if quick else 8
    ask_one = partial(ask, requests=1)
    model = str(MNIST / "saved/1")
    with tempfile.NamedTemporaryFile(suffix=".json") as body:
        Path(body.name).write_bytes(request_body())
        return [
            *_rows(
                "runtime",
                4,
                runs,
                lambda: _first(python("first_ours.py", model)),
                lambda: _first(python("first_peer.py", model)),
            ),
            *_rows(
                "with the app",
                3,
                runs,
                lambda: _first(python("drive.py", "ours", body.name), ask_one),
                lambda: _first(python("drive.py", "peer", body.name), ask_one),
            ),
        ]


def _first(command: Sequence[str], first: Callable[[Popen[str]], Report] = report) -> Report:
    """A child's first report, with the milliseconds since its spawn.

    The kernel starts the child's peak memory at what this process holds, so nothing large is
    imported here.
    """
    start = perf_counter()
    with child(command, seconds=_SECONDS) as process:
        found = first(process)
        return {**found, "milliseconds": 1000 * (perf_counter() - start)}


def _rows(
    what: str,
    wanted: float,
    runs: int,
    run_ours: Callable[[], Report],
    run_peer: Callable[[], Report],
) -> list[Row]:
    pairs = [(run_ours(), run_peer()) for _ in range(runs)]
    pairs = pairs[1:] or pairs  # the first ones only fill the page cache
    check_same(*pairs[0])

    times = [(ours["milliseconds"], peer["milliseconds"]) for ours, peer in pairs]
    peaks = [(_megabytes(ours), _megabytes(peer)) for ours, peer in pairs]
    return [
        Row.of(f"first prediction, {what}", Unit.MILLISECONDS, times, wanted),
        Row.of(f"peak memory, {what}", Unit.MEGABYTES, peaks, 0.65),
    ]


def _megabytes(report: Report) -> float:
    kib: int = report["peak_kib"]
    return kib * 1024 / 1e6
