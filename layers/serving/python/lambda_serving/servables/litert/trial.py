"""Opens a `.tflite` file and runs it once, in a process that may die of it.

LiteRT checks much of what a damaged or foreign file may hold, but not all: some ends the process.
`python -m lambda_serving.servables.litert.trial` reads such a file from its standard input.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DataLoss, DeadlineExceeded, InvalidArgument, ServingError, of_code
from lambda_serving.installation import translate_import_errors
from lambda_serving.servables.litert.interpreters import open_model
from lambda_serving.servables.litert.model_file import ModelFile, read
from lambda_serving.servables.servable import TensorSpec
from lambda_serving.servables.signature_defs import signatures

__all__ = ["try_in_child"]

_SECONDS = 120
_PLAIN_TOO = "plain-too"
_ROWS = (1, 2)
_MOST_VALUES = 2**24  # of an input that a trial makes up


def try_in_child(content: bytes, *, plain_too: bool = False) -> None:
    """Opens and runs a file, with rows of zeros, in a process of its own.

    It does so without XNNPACK too if `plain_too`. Raises what opening it raises, DataLoss if it
    ends that process, and DeadlineExceeded if that takes two minutes. Inputs that the model refuses
    are no problem: those of requests may fit.
    """
    command = (sys.executable, "-P", "-m", __name__, *([_PLAIN_TOO] if plain_too else ()))
    try:
        child = subprocess.run(
            command, input=content, capture_output=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded(
            f"A trial run on zeros did not end in {_SECONDS} s, so it is not served"
        ) from None
    if child.returncode < 0:
        raise DataLoss(
            f"It ended the process that tried it (signal {-child.returncode}), so it is not served."
            " It is damaged, or LiteRT has a fault. Convert it again, or serve the SavedModel"
        )
    if child.returncode:
        code, _, message = child.stdout.decode(errors="replace").partition(" ")
        told = child.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
        if not code.isdecimal():
            raise DataLoss(f"It could not be tried in a process of its own: {told[-1]}")
        raise of_code(int(code), message)


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # short of memory, the kernel ends this process and not the server
        Path("/proc/self/oom_score_adj").write_text("1000")
    content = sys.stdin.buffer.read()
    try:
        with translate_import_errors():
            _try(content)
    except ServingError as error:
        sys.stdout.write(f"{int(error.code)} {error}")
        sys.stdout.flush()
        os._exit(1)
    os._exit(0)  # nothing of it is worth the time of an orderly end


def _try(content: bytes) -> None:
    file = read(content)
    for plain in (False, True) if _PLAIN_TOO in sys.argv[1:] else (False,):
        model = open_model(content, file, threads=1, plain=plain)
        for name, inputs in _trials(file):
            with suppress(InvalidArgument):
                model.run(name, inputs)


def _trials(file: ModelFile) -> Iterator[tuple[str, dict[str, Array]]]:
    """Signatures and inputs for them, free dimensions filled by each number of rows."""
    for signature in signatures(file.definitions()).values():
        seen = list[dict[str, tuple[int, ...]]]()
        for rows in _ROWS:
            shapes = {name: _shape(spec, rows) for name, spec in signature.inputs.items()}
            if shapes not in seen and sum(map(prod, shapes.values())) <= _MOST_VALUES:
                seen.append(shapes)
                yield (
                    signature.name,
                    {
                        name: _zeros(shapes[name], spec.dtype)
                        for name, spec in signature.inputs.items()
                    },
                )


def _shape(spec: TensorSpec, rows: int) -> tuple[int, ...]:
    return tuple(rows if size is None else size for size in spec.shape or ())


def _zeros(shape: tuple[int, ...], dtype: DType) -> Array:
    return np.full(shape, b"", object) if dtype is DType.STRING else np.zeros(shape, dtype.numpy)


if __name__ == "__main__":
    _main()
