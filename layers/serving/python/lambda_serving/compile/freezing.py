"""The process that freezes, as its parent sees it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_serving import temporary

__all__ = ["Frozen", "Stays", "freeze"]

_MOST_CHARACTERS = 10_000


class Stays(Exception):
    """The model is left as it is; the message says why, `details` what TensorFlow said, if any."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


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
    *,
    onednn: bool = True,
    mapped: bool = True,
) -> Frozen:
    """Writes the compiled graph of a SavedModel and its weights to the folder `out`.

    `stage` is told what the process is at. The graph names oneDNN's kernels if `onednn`, and has
    large constants in files if `mapped`. Raises Stays when such a model cannot be compiled, or
    the process fails or crashes over it; OSError when it cannot write.
    """
    command = [sys.executable, "-P", "-m", "lambda_serving.compile.freeze", str(source), str(out)]
    with (
        temporary.file() as errors,
        subprocess.Popen(
            [
                *(*command, ",".join(tags), ",".join(op_libraries)),
                *(str(int(flag)) for flag in (onednn, mapped)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        at = "starting"
        try:
            for line in process.stdout or ():
                match json.loads(line):
                    case {"stage": name}:
                        stage(at := name)
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
        said = errors.read().decode(errors="replace").strip()
        raise Stays(_reason(at, code), said[-_MOST_CHARACTERS:])


def _reason(at: str, code: int) -> str:
    """Why there is no graph, from the stage and the exit code alone."""
    failed = f"TensorFlow failed while {at}"
    match -code:
        case signal.SIGKILL:
            return f"{failed}: its process was killed, as happens when memory runs out"
        case number if number > 0:
            return f"{failed}: its process ended by signal {number}"
        case _:
            return f"{failed}. The report has its words under details"
