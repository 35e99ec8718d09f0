"""Starts and asks the process that compiles and converts graphs (`freezer_process`)."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from lambda_serving.compile import NotCompilable
from lambda_serving.errors import FailedPrecondition
from lambda_serving.store import temporary

__all__ = ["Freezer", "Frozen"]

_MOST_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Frozen:
    """The effect on a graph: its nodes, including those of functions, and bytes of variables."""

    nodes_before: int
    nodes_after: int
    frozen_bytes: int
    mapped_bytes: int
    left_out: Sequence[str]


class Freezer:
    """A process that imports Python TensorFlow once, then forks itself for each graph.

    It starts with the first graph, and again after a failure; it ends with the `with` block. Only
    one thread at a time may use it.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._end()

    def freeze(
        self,
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

        `stage` is called with each stage of the process. The graph uses oneDNN's kernels if
        `onednn`, and keeps large constants in files if `mapped`. Raises NotCompilable when the
        model cannot be compiled, or the process fails or crashes; OSError when it cannot write;
        FailedPrecondition when TensorFlow cannot be imported.
        """
        how = {"onednn": onednn, "mapped": mapped}
        return Frozen(**self._ask(source, out, tags, op_libraries, stage, how))

    def convert(
        self,
        source: Path,
        out: Path,
        tags: Sequence[str],
        op_libraries: Sequence[str],
        stage: Callable[[str], None],
        signatures: Sequence[str],
    ) -> None:
        """Converts these signatures of a SavedModel to `model.tflite` in the folder `out`.

        Raises as `freeze` does.
        """
        self._ask(source, out, tags, op_libraries, stage, {"signatures": list(signatures)})

    def _ask(
        self,
        source: Path,
        out: Path,
        tags: Sequence[str],
        op_libraries: Sequence[str],
        stage: Callable[[str], None],
        how: Mapping[str, Any],
    ) -> Any:
        where = {"source": str(source), "out": str(out), "tags": list(tags)}
        asked = {**where, "op_libraries": list(op_libraries), **how}
        process, errors = self._running()
        before = os.fstat(errors).st_size
        try:
            return self._answer(process, asked, stage)
        except _Failed as failed:
            said = os.pread(errors, os.fstat(errors).st_size - before, before)
            words = said.decode(errors="replace").strip()[-_MOST_CHARACTERS:]
            raise NotCompilable(str(failed), words) from None

    def _answer(
        self, process: subprocess.Popen[str], asked: Mapping[str, Any], stage: Callable[[str], None]
    ) -> Any:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout
        at, answer = "starting", dict[str, Any]()
        try:
            with suppress(BrokenPipeError):  # its output or exit code tells more
                stdin.write(json.dumps(asked) + "\n")
                stdin.flush()
            for line in stdout:
                match json.loads(line):
                    case {"stage": name}:
                        stage(at := name)
                    case {"ended": int(code)}:
                        break
                    case other:
                        answer = other
            else:
                code = process.wait()
                self._end()
        except BaseException:
            self._end()  # or the next request would read this answer
            raise
        match answer:
            case {"result": result}:
                return result
            case {"refused": reason}:
                raise NotCompilable(reason)
            case {"cannot write": [number, reason]}:
                raise OSError(number, reason)
            case {"broken": reason}:
                raise FailedPrecondition(reason)
        raise _Failed(_reason(at, code))

    def _running(self) -> tuple[subprocess.Popen[str], int]:
        """The process, and the descriptor of the file that receives its stderr."""
        if self._errors is None:
            self._errors = self._stack.enter_context(temporary.file())
        if self._process and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lambda_serving.compile.freezer_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                # only a process of one thread forks safely
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
        return self._process, self._errors.fileno()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()  # its forks die too
            process.communicate()


class _Failed(Exception):
    """The process gave no answer; the message names the stage at which it failed."""


def _reason(at: str, code: int) -> str:
    """Why there is no graph, derived from the stage and the exit code."""
    failed = f"TensorFlow failed while {at}"
    match -code:
        case signal.SIGKILL:
            return f"{failed}: its process was killed, as happens when memory runs out"
        case number if number > 0:
            return f"{failed}: its process ended by signal {number}"
        case _:
            return f"{failed}. The report has its output under details"
