"""Serves a folder in a process of its own, which whatever ends it ends alone.

`Apart` starts the process, and this module is its program. Both ends exchange pickles: a call, and
what it returns or the exception that it raises.
"""

import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NoReturn, Self

from lambda_serving.compile import NotCompilable, verify
from lambda_serving.compile.runtimes import LITERT
from lambda_serving.dtypes import Array
from lambda_serving.errors import ServingError
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable

__all__ = ["Apart", "Served"]

_SECONDS = 300
"""A call that takes longer ends the process: no runtime stops every run itself."""
_NAMES = {LITERT: "LiteRT"}


@dataclass(frozen=True, slots=True)
class Served:
    """A folder, and how a function serves it: its files stay, and compiled weights are mapped."""

    folder: Path
    runtime: str
    tags: Sequence[str] = ("serve",)
    op_libraries: Sequence[str] = ()

    def load(self) -> Servable:
        """Raises what loading it raises."""
        if self.runtime == LITERT:
            from lambda_serving.servables.litert.load import load_tflite  # a process needs one

            return load_tflite(self.folder, 1, 1, lambda: None, trusted=True)
        from lambda_serving.servables.tensorflow_c.op_libraries import load_op_library

        for path in self.op_libraries:
            load_op_library(path)
        return saved_model.load(self.folder, tags=self.tags, warm_up=False, files_stay=True)


class Apart:
    """A process that serves a folder until the end of the `with` block.

    Each method raises the ServingError that loading raises, and NotCompilable if the process ends
    or does not answer within five minutes. A process whose parent ends, ends too.
    """

    def __init__(self, served: Served) -> None:
        self._name = _NAMES.get(served.runtime, "TensorFlow")
        self._process = subprocess.Popen(
            (sys.executable, "-P", "-m", __name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._send(served)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answers(self, inputs: verify.Inputs) -> verify.Answers:
        """As `verify.answers`."""
        found: verify.Answers = self._call("answers", inputs)
        return found

    def start(self, name: str, inputs: Mapping[str, Array]) -> float:
        """Milliseconds of processor time of the process until the end of this first answer."""
        seconds: float = self._call("first", name, inputs)
        return 1000 * seconds

    def warm(
        self, name: str, inputs: Mapping[str, Array], runs: int, seconds: float
    ) -> list[float]:
        """Milliseconds of processor time of each answer.

        There are at most so many runs in so many seconds, and at least one.

        Empty if the servable refuses these inputs.
        """
        times: list[float] = self._call("warm", name, inputs, runs, seconds)
        return times

    def peak_mb(self) -> float:
        """The most memory that the process had resident, in 1e6 bytes."""
        size: int = self._call("peak_bytes")
        return size / 1e6

    def _call(self, *call: Any) -> Any:
        stdout = self._process.stdout
        assert stdout
        self._send(call)
        try:
            answer = pickle.load(stdout)  # noqa: S301 - this module wrote it
        except (EOFError, pickle.UnpicklingError):
            raise NotCompilable(self._end()) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _send(self, message: Any) -> None:
        stdin = self._process.stdin
        assert stdin
        with suppress(BrokenPipeError):  # its end is noticed when it should answer
            pickle.dump(message, stdin)
            stdin.flush()

    def _end(self) -> str:
        match -self._process.wait():
            case signal.SIGALRM:
                return f"{self._name} did not answer within {_SECONDS} seconds"
            case number if number > 0:
                return f"{self._name} ended the process that served it by signal {number}"
            case number:
                return f"{self._name} ended the process that served it with code {-number}"


class _Calls:
    """What the process can be asked."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def answers(self, inputs: verify.Inputs) -> verify.Answers:
        return verify.answers(self._servable, inputs)

    def first(self, name: str, inputs: Mapping[str, Array]) -> float:
        self._servable.run(name, inputs)
        return process_time()

    def warm(
        self, name: str, inputs: Mapping[str, Array], runs: int, seconds: float
    ) -> list[float]:
        times, end = list[float](), perf_counter() + seconds
        try:
            while not times or (len(times) < runs and perf_counter() < end):
                begun = process_time()
                self._servable.run(name, inputs)
                times.append(1000 * (process_time() - begun))
        except ServingError:
            return []
        return times

    def peak_bytes(self) -> int:
        try:
            status = Path("/proc/self/status").read_text()
        except FileNotFoundError:  # not Linux
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        [kibibytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)  # ru_maxrss counts the parent's too
        return 1024 * int(kibibytes)


def _main() -> NoReturn:
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print goes to stderr
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    calls, problem = None, None
    with suppress(EOFError):  # the other end is gone
        served: Served = pickle.load(requests)  # noqa: S301 - this module wrote it
        try:
            calls = _Calls(served.load())
        except ServingError as error:
            problem = error
        while True:
            name, *arguments = pickle.load(requests)  # noqa: S301 - as above
            signal.alarm(_SECONDS)
            try:
                answer = problem or getattr(calls, name)(*arguments)
            except Exception as error:  # noqa: BLE001 - the other end raises it
                answer = error
            signal.alarm(0)
            pickle.dump(answer, answers)
            answers.flush()
    os._exit(0)


if __name__ == "__main__":
    _main()
