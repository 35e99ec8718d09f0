"""One MNIST digit through each ASGI application and each Lambda handler, warm, in process."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.children import ask, check_same, child, python, read_only, request_body
from benchmarks.prepared import MODELS
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_SECONDS = 300
_NAMES = {
    "": "warm digit, application",
    "-threads": "warm digit, application with threads",
    "-handler": "warm digit, event in to answer out",
}
"""By what is added to the name of a side; the peer has no threads of its own."""


def measure(*, quick: bool) -> list[Row]:
    """Medians and p99 of 2,000 requests in blocks; the sides take turns.

    Ours is compiled for LiteRT, beside ours with the export, in TensorFlow.
    """
    blocks, size = (2, 10) if quick else (20, 100)
    with (
        tempfile.NamedTemporaryFile(suffix=".json") as body,
        read_only(MODELS["digits"].compiled("litert")) as litert,
    ):
        Path(body.name).write_bytes(request_body())
        drivers = {
            name: python("drive.py", name, body.name)
            for name in ("peer", "peer-handler", *(f"ours{kind}" for kind in _NAMES))
        }
        drivers |= {
            f"litert{kind}": python("drive.py", f"ours{kind}", body.name, str(litert))
            for kind in _NAMES
        }
        samples = _samples(drivers, blocks, size)
    return [row for kind in _NAMES for row in _rows(kind, samples)]


def _samples(
    commands: Mapping[str, Sequence[str]], blocks: int, size: int
) -> dict[str, list[float]]:
    """The milliseconds of requests to each driver."""
    with ExitStack() as stack:
        drivers = {
            name: stack.enter_context(child(command, seconds=_SECONDS))
            for name, command in commands.items()
        }
        warmed = {name: ask(driver, size) for name, driver in drivers.items()}
        for found in warmed.values():
            check_same(found, warmed["peer"])
        samples: dict[str, list[float]] = {name: [] for name in drivers}
        for _ in range(blocks):
            for name, driver in drivers.items():
                samples[name] += [1000 * each for each in ask(driver, size)["seconds"]]
    return samples


def _rows(kind: str, samples: Mapping[str, Sequence[float]]) -> list[Row]:
    what = _NAMES[kind]
    sides = {
        "ours": samples[f"litert{kind}"],
        "ours, TensorFlow": samples[f"ours{kind}"],
        "peer": samples[f"peer{kind.removesuffix('-threads')}"],
    }
    return [
        *Row.each(what, Unit.MILLISECONDS, sides, {"peer": 3}),
        *Row.each(f"{what}, p99", Unit.MILLISECONDS, sides, percent=99),
    ]
