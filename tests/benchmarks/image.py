"""The function as an image: its size, cold start, memory and cost.

The peer's image has everything as pip installs it. Both run under Lambda's emulator in Docker.
"""

import json
import math
from statistics import mean
from time import perf_counter

from benchmarks.children import Report, check_same
from benchmarks.rows import Row, Unit
from support import containers, docker_engine, events

__all__ = ["measure"]

_DOLLARS_PER_GB_SECOND = 0.0000166667  # 2026-11: us-east-1, x86, the first tier
_OF_ARM64 = 0.0000133334 / _DOLLARS_PER_GB_SECOND
_LEAST_MEMORY = 128  # MiB, as functions are configured


def measure(*, quick: bool) -> list[Row]:
    """Fresh containers of both sides in turn; each predicts a first digit and then more."""
    runs, requests = (1, 20) if quick else (5, 500)
    with docker_engine.running():
        docker_engine.make_base_image()
        ours, peer = (
            docker_engine.build("lambda-serving-predict", "images/Dockerfile", "--target=predict"),
            docker_engine.build("lambda-serving-naive", "tests/benchmarks/naive/Dockerfile"),
        )
        sizes = [(_megabytes(ours), _megabytes(peer))]
        # The first run of each only fills the page cache.
        _, *pairs = [(_run(ours, requests), _run(peer, requests)) for _ in range(1 + runs)]
    check_same(*pairs[0])
    return [Row.of("image, uncompressed", Unit.MEGABYTES, sizes, 0.16), *_rows(pairs)]


def _megabytes(image: str) -> float:
    """The uncompressed size of an image's layers, in MB."""
    layers = docker_engine.docker("history", "--human=false", "--format={{.Size}}", image)
    return sum(int(size) for size in layers.split()) / 1e6


def _run(image: str, requests: int) -> Report:
    """From the start of a container to its first prediction, then some warm ones."""
    event = events.load("predict")
    with containers.running(image) as function:
        returned = function.invoke(event)
        milliseconds = 1000 * (perf_counter() - function.started)
        for _ in range(requests):
            function.invoke(event)
        _, *billed = function.billed_milliseconds()
        return {
            "predictions": json.loads(returned["body"])["predictions"],
            "milliseconds": milliseconds,
            "peak_bytes": function.peak_bytes(),
            "billed_milliseconds": mean(billed),
        }


def _rows(pairs: list[tuple[Report, Report]]) -> list[Row]:
    cold = [(ours["milliseconds"], peer["milliseconds"]) for ours, peer in pairs]
    peaks = [(ours["peak_bytes"] / 1e6, peer["peak_bytes"] / 1e6) for ours, peer in pairs]
    billed = [(ours["billed_milliseconds"], peer["billed_milliseconds"]) for ours, peer in pairs]
    costs = [(_dollars_per_million(ours), _dollars_per_million(peer)) for ours, peer in pairs]
    on_arm64 = [(_OF_ARM64 * ours, _OF_ARM64 * peer) for ours, peer in costs]
    return [
        Row.of("first prediction, container", Unit.MILLISECONDS, cold, 3),
        Row.of("peak memory, container", Unit.MEGABYTES, peaks, 0.65),
        Row.of("billed for a warm digit", Unit.MILLISECONDS, billed),
        Row.of("a million warm digits", Unit.DOLLARS, costs),
        Row.of("the same at arm64's price and this speed", Unit.DOLLARS, on_arm64),
    ]


def _dollars_per_million(report: Report) -> float:
    """The price with the least memory that holds the peak, at the speed of this machine.

    It does not include the price of a request itself, which is the same for both sides.
    """
    mebibytes: int = max(_LEAST_MEMORY, math.ceil(report["peak_bytes"] / 2**20))
    seconds: float = 1e6 * report["billed_milliseconds"] / 1000
    return mebibytes / 1024 * seconds * _DOLLARS_PER_GB_SECOND
