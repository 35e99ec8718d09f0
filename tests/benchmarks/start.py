"""From the spawn of a process to its first prediction, with its peak memory."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from subprocess import Popen
from time import perf_counter
from typing import Any

from benchmarks.children import (
    MNIST,
    Report,
    ask,
    check_same,
    child,
    python,
    read_only,
    report,
    request_body,
)
from benchmarks.prepared import MODELS, Model
from benchmarks.rows import Row, Unit, samples

__all__ = ["measure"]

_SECONDS = 120
_WANTED = {"ours, TensorFlow": 1.0, "peer": 15.0}
_SHARE = {"peer": 0.65}
_LARGER = ("mobilenetv2", "resnet50")

_First = Callable[[], Report]


def measure(*, quick: bool) -> list[Row]:
    """The sample model through the application and as an event; its export by the runtime alone.

    Of the first two, ours is compiled for LiteRT, beside ours compiled for TensorFlow and ours with
    the export. Events of larger models have no peer.
    """
    runs, export = (1 if quick else 6), str(MNIST / "saved/1")
    alone = {
        side: partial(_first, python(f"first_{side}.py", export), report)
        for side in ("ours", "peer")
    }
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder:
        body = Path(folder) / "body.json"
        body.write_bytes(request_body())
        rows = _digit_rows(MODELS["digits"], body, runs)
        for name in () if quick else _LARGER:
            body.write_bytes(_image(MODELS[name].row))
            rows += _event_rows(MODELS[name], body, runs)
    return [*rows, *_rows("first prediction, runtime, export", alone, {"peer": 4.0}, runs)]


def _digit_rows(model: Model, body: Path, runs: int) -> list[Row]:
    rows = []
    with (
        read_only(model.compiled("litert")) as litert,
        read_only(model.compiled("tensorflow")) as tensorflow,
    ):
        for what, kind in (("with the app", ""), ("as an event", "-handler")):
            sides = {
                "ours": _driven(f"ours{kind}", body, litert),
                "ours, TensorFlow": _driven(f"ours{kind}", body, tensorflow),
                "ours, export": _driven(f"ours{kind}", body, model.export()),
                "peer": _driven(f"peer{kind}", body),
            }
            rows += _rows(f"first prediction, {what}", sides, _WANTED, runs)
    return rows


def _event_rows(model: Model, body: Path, runs: int) -> list[Row]:
    with read_only(model.compiled("litert")) as base_path:
        first = _driven("ours-handler", body, base_path)
        return _rows(f"first prediction, as an event, {model.title}", {"ours": first}, {}, runs)


def _image(shape: Sequence[int]) -> bytes:
    """A request with a row of this shape, in two decimals."""
    row: Any = 0.25
    for size in reversed(shape):
        row = [row] * size
    return json.dumps({"instances": [row]}).encode()


def _driven(side: str, body: Path, *base_path: Path) -> _First:
    command = python("drive.py", side, str(body), *map(str, base_path))
    return partial(_first, command, partial(ask, requests=1))


def _first(command: Sequence[str], first: Callable[[Popen[str]], Report]) -> Report:
    """A child's first report, with the milliseconds since its spawn."""
    start = perf_counter()
    with child(command, seconds=_SECONDS) as process:
        found = first(process)
        milliseconds = 1000 * (perf_counter() - start)
    return {**found, "milliseconds": milliseconds, "megabytes": found["peak_kib"] * 1024 / 1e6}


def _rows(
    what: str, sides: Mapping[str, _First], wanted: Mapping[str, float], runs: int
) -> list[Row]:
    """Times and memory of ours beside each other side; they take turns."""
    rounds = [{side: first() for side, first in sides.items()} for _ in range(runs)]
    rounds = rounds[1:] or rounds  # the first ones only fill the page cache
    for found in rounds[0].values():
        check_same(rounds[0]["ours"], found)
    return [
        *Row.each(what, Unit.MILLISECONDS, samples(rounds, "milliseconds"), wanted),
        *Row.each(f"{what}: peak memory", Unit.MEGABYTES, samples(rounds, "megabytes"), _SHARE),
    ]
