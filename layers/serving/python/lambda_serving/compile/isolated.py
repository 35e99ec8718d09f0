"""Compiles in a separate process that holds no credentials, because a model is code.

`compile_apart` starts the process, and this module is its program. Its environment has no
variable that begins with `AWS_`: Lambda puts a role's credentials there. A model that crashes
TensorFlow or never ends takes down only that process.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from lambda_serving.compile.runtimes import TENSORFLOW
from lambda_serving.errors import (
    DeadlineExceeded,
    DiskFull,
    FailedPrecondition,
    Internal,
    ResourceExhausted,
    ServingError,
    of_code,
)
from lambda_serving.store import temporary

__all__ = ["Outcome", "compile_apart"]

_PROGRAM = (sys.executable, "-P", "-m", "lambda_serving.compile.isolated")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why the export was left as it is, or None if it was compiled.

    `seconds` are those of each stage, `runtime` is the one it was compiled for.
    """

    reason: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    runtime: str = TENSORFLOW


def compile_apart(
    source: Path,
    destination: Path,
    *,
    op_libraries: Sequence[str] = (),
    timeout_s: float | None = None,
    runtime: str = TENSORFLOW,
) -> Outcome:
    """As `compiler.compile_saved_model`; its cache is a temporary folder beside `destination`.

    Raises what that raises, DeadlineExceeded after `timeout_s`, ResourceExhausted if the process
    was killed, FailedPrecondition if it crashed.
    """
    libraries = list(op_libraries)
    with (
        temporary.folder("cache-", destination.parent) as cache,
        temporary.file() as said,
        subprocess.Popen(
            [*_PROGRAM, str(source), str(destination), str(cache), json.dumps(libraries), runtime],
            stdin=subprocess.DEVNULL,
            stdout=said,
            env=_environment(os.environ),
            process_group=0,  # so that its children can be killed too
        ) as process,
    ):
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(
                f"Compiling it did not end within {timeout_s:.0f} seconds"
            ) from None
        finally:
            _end(process)
        said.seek(0)
        return _outcome(said.read(), code)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the process, if it still runs, and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without AWS credentials, and without access to a machine's."""
    kept = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true"}


def _outcome(said: bytes, code: int) -> Outcome:
    try:
        answer = json.loads(said)
    except ValueError:  # empty, or cut off
        answer = None
    match answer:
        case {"reason": reason, "seconds": seconds, "runtime": str(runtime)}:
            return Outcome(reason, seconds, runtime)
        case {"error": [str(name), int(number), str(message)]}:
            raise DiskFull(message) if name == DiskFull.__name__ else of_code(number, message)
    match -code:
        case signal.SIGKILL:
            raise ResourceExhausted(
                "Compiling it was killed, as happens when memory runs out. Give it more memory"
            )
        case number if number > 0:
            raise FailedPrecondition(
                f"Compiling it ended by signal {number}: TensorFlow crashes over this model"
            )
    raise Internal(f"Compiling it ended with exit code {code} without a message")


def _main(source: str, destination: str, cache: str, op_libraries: str, runtime: str) -> NoReturn:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to stderr
    from lambda_serving.compile.compiler import compile_saved_model

    try:
        report = compile_saved_model(
            Path(source),
            Path(destination),
            op_libraries=json.loads(op_libraries),
            cache=Path(cache),
            runtime=runtime,
        )
    except ServingError as error:
        json.dump({"error": [type(error).__name__, error.code, str(error)]}, out)
    else:
        runtime = report.runtime.name
        json.dump(
            {"reason": report.reason, "seconds": dict(report.seconds), "runtime": runtime}, out
        )
    out.flush()
    os._exit(0)  # does not wait for threads that the model started


if __name__ == "__main__":
    _main(*sys.argv[1:])
