"""Threads that predict one row after another: `python clients.py SIDE MODEL INPUTS THREADS`.

SIDE is `joined` or `alone`. Each line of standard input is a number of seconds; the answer is a
line of JSON with the rows a second and the p99.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from lambda_serving.batching import Batcher, BatchingParameters
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable


def main(side: str, export_dir: Path, inputs: str, threads: int) -> None:
    with np.load(inputs) as arrays:
        row = dict(arrays)
    with _servable(side, export_dir) as servable, ThreadPoolExecutor(threads) as pool:
        for line in sys.stdin:
            until = perf_counter() + float(line)
            asked = [pool.submit(_ask, servable, row, until) for _ in range(threads)]
            took = [seconds for each in asked for seconds in each.result()]
            report = {"rate": len(took) / float(line), "p99_ms": 1000 * np.percentile(took, 99)}
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()


@contextmanager
def _servable(side: str, export_dir: Path) -> Iterator[Servable]:
    if side == "alone":
        with saved_model.load(export_dir) as servable:
            yield servable
        return
    with (
        Batcher(BatchingParameters()) as batcher,
        saved_model.load(export_dir, wrap=batcher.joined) as servable,
    ):
        yield servable


def _ask(servable: Servable, row: dict[str, Any], until: float) -> list[float]:
    took = []
    while (start := perf_counter()) < until:
        servable.run("", row)
        took.append(perf_counter() - start)
    return took


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
