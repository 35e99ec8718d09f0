"""Bodies that are invalid near their end: the time of our answer, and of `json.loads` alone."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import process_time

from benchmarks.rows import Row, Unit
from lambda_serving.api import codec
from lambda_serving.errors import ServingError
from lambda_serving.servables.servable import Signature, TensorSpec
from support.late_json import LATE, Late

__all__ = ["measure"]

_BYTES = 2**21
_WANTED = 1 / 5
"""The share of the speed of `json.loads`, which makes no arrays."""
_COLLECTOR = codec.Collector()


def measure(*, quick: bool) -> list[Row]:
    """A row for each kind of body; the last one is the slowest of those that Python reads whole."""
    size, runs = (2**15, 1) if quick else (_BYTES, 5)
    rows = {name: _row(name, late, size, runs) for name, late in LATE.items()}
    ratios = {name: row.ratio for name, row in rows.items() if row.ratio is not None}
    worst = rows[min(ratios, key=ratios.__getitem__)]
    return [*rows.values(), replace(worst, what=f"the slowest: {worst.what}")]


def _row(name: str, late: Late, size: int, runs: int) -> Row:
    body = late.body(size)
    specs = {each: TensorSpec(dtype, None, each) for each, dtype in late.inputs.items()}
    signature = Signature("serving_default", specs, {}, "", b"", {})
    what = f"{name}, {len(body) / 2**20:.2g} MiB"
    with _COLLECTOR.off():
        if late.early:
            ours = [_milliseconds(lambda: _answer(body, signature)) for _ in range(runs)]
            return Row.alone(what, Unit.MILLISECONDS, ours)
        text = _in_words_of_python(body)
        pairs = [
            (_milliseconds(lambda: _answer(body, signature)), _milliseconds(lambda: _loads(text)))
            for _ in range(runs)
        ]
    return Row.of(what, Unit.MILLISECONDS, pairs, _WANTED)


def _answer(body: bytes, signature: Signature) -> None:
    with suppress(ServingError), codec.Growth() as growth:
        codec.decode(codec.parse(body, codec.Limits(growth=growth)), signature)


def _in_words_of_python(body: bytes) -> str:
    text = body.decode(errors="surrogateescape").replace("-NaN", " NaN")
    return re.sub(r"Inf\b", "Infinity", text)


def _loads(text: str) -> None:
    with suppress(ValueError):
        json.loads(text)


def _milliseconds(call: Callable[[], object]) -> float:
    """Milliseconds of CPU time, so that other programs on the machine matter less."""
    start = process_time()
    call()
    return 1000 * (process_time() - start)
