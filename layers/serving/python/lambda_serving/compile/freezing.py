"""The process that freezes, as its parent sees it."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Frozen", "Stays", "freeze"]

_MOST_CHARACTERS = 500
_TELLING = re.compile(r"[\w.]+(Error|Exception): |F\d{4} ")


class Stays(Exception):
    """The model is left as it is; the message says why."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What became of a graph: nodes, those of functions included, and bytes of its variables."""

    nodes_before: int
    nodes_after: int
    frozen_bytes: int
    mapped_bytes: int
    left_out: Sequence[str]


def freeze(
    source: Path,
    out: Path,
    tags: Sequence[str],
    op_libraries: Sequence[str],
    stage: Callable[[str], None],
) -> Frozen:
    """Writes the compiled graph of a SavedModel and its weights to the folder `out`.

    `stage` is told what the process is at. Raises Stays when such a model cannot be compiled, or
    the process fails or crashes over it; OSError when it cannot write.
    """
    command = [sys.executable, "-P", "-m", "lambda_serving.compile.freeze", str(source), str(out)]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [*command, ",".join(tags), ",".join(op_libraries)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                match json.loads(line):
                    case {"stage": name}:
                        stage(name)
                    case {"refused": reason}:
                        raise Stays(reason)
                    case {"cannot write": [number, reason]}:
                        raise OSError(number, reason)
                    case {"result": result}:
                        return Frozen(**result)
            code = process.wait()
        finally:
            process.kill()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
        raise Stays(f"TensorFlow gave up with exit code {code}: {_reason(said)}")


def _reason(said: str) -> str:
    """The line of an exception or of a failed check, whatever came behind it."""
    lines = said.strip().splitlines()
    telling = [line for line in lines if _TELLING.match(line)] or lines or ["it said nothing"]
    return telling[-1][:_MOST_CHARACTERS]
