"""One MNIST digit through each ASGI application and each Lambda handler, warm, in process."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.children import ask, check_same, child, python, request_body
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_SECONDS = 300
_PEERS = {"ours": "peer", "ours-threads": "peer", "ours-handler": "peer-handler"}
_NAMES = {
    "ours": "warm digit, application",
    "ours-threads": "warm digit, application with threads",
    "ours-handler": "warm digit, event in to answer out",
}


def measure(*, quick: bool) -> list[Row]:
    """Medians and p99 of 2,000 requests in blocks; the sides take turns."""
    blocks, size = (2, 10) if quick else (20, 100)
    with tempfile.NamedTemporaryFile(suffix=".json") as body, ExitStack() as stack:
        Path(body.name).write_bytes(request_body())
        drivers = {
            name: stack.enter_context(child(python("drive.py", name, body.name), seconds=_SECONDS))
            for name in sorted({*_PEERS, *_PEERS.values()})
        }
        warmed = {name: ask(driver, size) for name, driver in drivers.items()}
        for name, peer in _PEERS.items():
            check_same(warmed[name], warmed[peer])
        samples: dict[str, list[float]] = {name: [] for name in drivers}
        for _ in range(blocks):
            for name, driver in drivers.items():
                samples[name] += ask(driver, size)["seconds"]
    return _rows({name: [1000 * each for each in samples[name]] for name in samples})


def _rows(samples: dict[str, list[float]]) -> list[Row]:
    rows = []
    for name, peer in _PEERS.items():
        pairs = list(zip(samples[name], samples[peer], strict=True))
        rows += [
            Row.of(_NAMES[name], Unit.MILLISECONDS, pairs, 3),
            Row.of(f"{_NAMES[name]}, p99", Unit.MILLISECONDS, pairs, percent=99),
        ]
    return rows
