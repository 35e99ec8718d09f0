"""The release function's handler in a process of its own, which can be killed while it works."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from lambda_serving.release import handler as release_handler

__all__ = ["Killed", "WorkerProcess"]


class Killed(Exception):
    """The process ended without an answer."""


class WorkerProcess:
    """The handler; each call runs in a new process, with this environment added to ours."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, event: Any, context: Any) -> Any:
        left = context.get_remaining_time_in_millis()
        with subprocess.Popen(
            [sys.executable, __file__, str(left)],
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as self._process:
            told, _ = self._process.communicate(json.dumps(event))
        if code := self._process.returncode:
            raise Killed(f"exit code {code}: {told}")
        return json.loads(told.splitlines()[-1])  # what comes before are metrics

    def kill(self) -> None:
        """Sends SIGKILL, and returns once it is gone."""
        assert self._process
        self._process.kill()
        self._process.wait()


def _main() -> None:
    left = int(sys.argv[1])
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: left)
    answer = release_handler.start(os.environ)(json.load(sys.stdin), context)
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main()
