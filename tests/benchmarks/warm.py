"""One MNIST digit through each ASGI application, warm, in process."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.children import ask, check_same, child, python, request_body
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_SECONDS = 300
_APPS = {"ours": "as in a function", "ours-threads": "as in a server"}


def measure(*, quick: bool) -> list[Row]:
    """Medians and 99th percentiles of 2,000 requests in blocks, the applications taking turns."""
    blocks, size = (2, 10) if quick else (20, 100)
    with tempfile.NamedTemporaryFile(suffix=".json") as body, ExitStack() as stack:
        Path(body.name).write_bytes(request_body())
        drivers = {
            name: stack.enter_context(child(python("drive.py", name, body.name), seconds=_SECONDS))
            for name in (*_APPS, "peer")
        }
        warmed = {name: ask(driver, size) for name, driver in drivers.items()}
        for name in _APPS:
            check_same(warmed[name], warmed["peer"])
        samples: dict[str, list[float]] = {name: [] for name in drivers}
        for _ in range(blocks):
            for name, driver in drivers.items():
                samples[name] += ask(driver, size)["seconds"]
    return _rows({name: [1000 * each for each in samples[name]] for name in samples})


def _rows(samples: dict[str, list[float]]) -> list[Row]:
    rows = []
    for name, where in _APPS.items():
        what = f"warm digit, {where}"
        pairs = list(zip(samples[name], samples["peer"], strict=True))
        rows += [
            Row.of(f"{what}", Unit.MILLISECONDS, pairs, 3),
            Row.of(f"{what}, p99", Unit.MILLISECONDS, pairs, percent=99),
        ]
    return rows
