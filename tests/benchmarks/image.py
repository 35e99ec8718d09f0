"""The function as an image: its size, cold start, memory and cost.

Ours has the model compiled for LiteRT, and so no TensorFlow. Beside it are ours compiled for
TensorFlow and the peer's, which has everything as pip installs it. All run under Lambda's emulator
in Docker.
"""

import json
import math
from collections.abc import Mapping, Sequence
from statistics import mean
from time import perf_counter

from benchmarks.children import Report, check_same
from benchmarks.rows import Row, Unit, samples
from lambda_serving.project.deployed.prices import LAMBDA_BY_GB_SECOND
from support import containers, docker_engine, events

__all__ = ["measure"]

_OF_ARM64 = LAMBDA_BY_GB_SECOND["arm64"] / LAMBDA_BY_GB_SECOND["x86_64"]
_LEAST_MEMORY = 128  # MiB, as functions are configured


def measure(*, quick: bool) -> list[Row]:
    """Fresh containers of all sides in turn; each predicts a first digit and then more."""
    runs, requests = (1, 20) if quick else (5, 500)
    with docker_engine.running():
        docker_engine.make_base_image()
        images = {
            "ours": _build("litert"),
            "ours, TensorFlow": _build("tensorflow"),
            "peer": docker_engine.build(
                "lambda-serving-naive", "tests/benchmarks/naive/Dockerfile"
            ),
        }
        sizes = {side: [_megabytes(image)] for side, image in images.items()}
        # The first run of each only fills the page cache.
        _, *rounds = [
            {side: _run(image, requests) for side, image in images.items()} for _ in range(1 + runs)
        ]
    for found in rounds[0].values():
        check_same(rounds[0]["ours"], found)
    return [
        *Row.each("image, uncompressed", Unit.MEGABYTES, sizes, {"peer": 260 / 1676}),
        *_rows(rounds),
    ]


def _build(runtime: str) -> str:
    options = ("--target=predict", f"--build-arg=RUNTIME={runtime}")
    return docker_engine.build(f"lambda-serving-{runtime}", "images/Dockerfile", *options)


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
        peak = function.peak_bytes()
        return {
            "predictions": json.loads(returned["body"])["predictions"],
            "milliseconds": milliseconds,
            "peak_megabytes": peak / 1e6,
            "billed_milliseconds": mean(billed),
            "dollars": _dollars_per_million(peak, mean(billed)),
        }


def _rows(rounds: Sequence[Mapping[str, Report]]) -> list[Row]:
    first, billed = samples(rounds, "milliseconds"), samples(rounds, "billed_milliseconds")
    dollars = samples(rounds, "dollars")
    on_arm64 = {side: [_OF_ARM64 * each for each in costs] for side, costs in dollars.items()}
    return [
        *Row.each("first prediction, container", Unit.MILLISECONDS, first, {"peer": 6}),
        *Row.each("peak memory, container", Unit.MEGABYTES, samples(rounds, "peak_megabytes")),
        *Row.each("billed for a warm digit", Unit.MILLISECONDS, billed),
        *Row.each("a million warm digits", Unit.DOLLARS, dollars, {"peer": 0.15}),
        *Row.each("the same at arm64's price and this speed", Unit.DOLLARS, on_arm64),
    ]


def _dollars_per_million(peak_bytes: int, billed_milliseconds: float) -> float:
    """The price with the least memory that holds the peak, at the speed of this machine.

    It does not include the price of a request itself, which is the same for all sides.
    """
    mebibytes: int = max(_LEAST_MEMORY, math.ceil(peak_bytes / 2**20))
    return mebibytes / 1024 * 1e6 * billed_milliseconds / 1000 * LAMBDA_BY_GB_SECOND["x86_64"]
