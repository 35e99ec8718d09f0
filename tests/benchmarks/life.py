"""The life of a process that predicts: `python life.py SIDE MODEL INPUTS.npz SECONDS CALLS`.

SIDE is `ours` or `peer`. Prints a line of JSON at the first answer, and one once the process has
settled, SECONDS and five calls later: the time of CALLS calls, and its memory.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

_Call = Callable[[], Mapping[str, Any]]
_SETTLING_CALLS = 5


def main(side: str, model: str, inputs: str, seconds: float, calls: int) -> None:
    with np.load(inputs) as found:
        arrays = dict(found)
    call = (_ours if side == "ours" else _peer)(model, arrays)
    answer = call()
    _say({"answer": {name: array.tolist() for name, array in answer.items()}, **_memory()})
    _wait(seconds)
    for _ in range(_SETTLING_CALLS):
        call()
    _say({"seconds": [_timed(call) for _ in range(calls)], **_memory()})


def _ours(model: str, inputs: dict[str, Any]) -> _Call:
    from lambda_serving.servables.saved_model import load

    servable = load(model)
    return lambda: servable.run("serving_default", inputs)


def _peer(model: str, inputs: dict[str, Any]) -> _Call:
    import tensorflow as tf

    loaded = tf.saved_model.load(model)
    infer = loaded.signatures["serving_default"]

    def call() -> Mapping[str, Any]:
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: each.numpy() for name, each in infer(**tensors).items()}

    return call


def _timed(call: _Call) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _wait(seconds: float) -> None:
    """Waits while TensorFlow's threads finish what they do after the first answer."""
    import threading

    threading.Event().wait(seconds)


def _memory() -> dict[str, int]:
    """KiB of resident memory, now and at most, as the kernel counts them."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    status = {name: value.strip() for name, _, value in lines}
    return {"kib": int(status["VmRSS"].split()[0]), "peak_kib": int(status["VmHWM"].split()[0])}


def _say(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5]))
