"""A worker as its parent sees it: a process, and the socket to it."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from itertools import count

from lambda_serving.errors import ServingError, of_code
from lambda_serving.server.downloads import remove_downloads
from lambda_serving.server.workers.frames import Frame, Kind

__all__ = ["WorkerProcess", "WorkerState"]

_log = logging.getLogger(__name__)
_MOST_SILENT, _MOST_BEHIND = 10, 60  # beats


class WorkerState(Enum):
    LOADING = auto()
    READY = auto()
    """Its models have loaded; it waits for LISTEN, or is about to serve."""
    SERVING = auto()
    CLOSING = auto()
    """It accepts no more connections."""
    ENDED = auto()


class WorkerProcess:
    """One process after another under the same number; `told` receives their frames.

    They inherit `listeners` and the register of shared weights (`shared_memory.Shared`).
    """

    def __init__(
        self,
        number: int,
        listeners: Sequence[socket.socket],
        register: int,
        told: Callable[["WorkerProcess", Frame], None],
    ) -> None:
        self.number = number
        self.state = WorkerState.ENDED
        self.error: ServingError | None = None
        """The error that the last process reported, if any."""
        self.is_outdated = False
        """Whether the last process was killed because a kept payload changed while it loaded."""
        self.lacks_models = False
        """Whether a model has no version that answers."""
        self._silent = self._behind = 0
        self._is_over = False
        self._inherited = (register, *(listener.fileno() for listener in listeners))
        self._told = told
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._calls: dict[int, asyncio.Future[bytes | None]] = {}
        self._numbers = count()

    @property
    def is_ready(self) -> bool:
        return self.state in {WorkerState.READY, WorkerState.SERVING}

    async def live(self, first: Sequence[Frame]) -> str:
        """Runs a process until it ends, and says how; it gets the `first` frames."""
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *self._inherited]
        self.state, self.error, self.is_outdated = WorkerState.LOADING, None, False
        self._silent = self._behind = 0
        with theirs:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "lambda_serving.server.workers",
                *map(str, (self.number, *fds)),
                pass_fds=fds,
                process_group=0,  # only the parent gets Ctrl-C, and it tells the workers
            )
        if self.is_outdated or self._is_over:  # while the process started
            self.kill()
        try:
            reader, self._writer = await asyncio.open_connection(sock=ours)
            for each in first:
                self.send(each)
            while frame := await Frame.read(reader):
                self.receive(frame)
            await process.wait()
        finally:
            self.kill()
            await process.wait()
            self._clear_up(process.pid)
        return f"Worker {self.number} (process {process.pid}) {_ended(process.returncode or 0)}"

    def send(self, frame: Frame) -> None:
        if self._writer and not self._writer.is_closing():
            self._writer.write(bytes(frame))

    async def call(self, topic: str, payload: bytes, seconds: float | None) -> bytes | None:
        """Its answer to a gather; None if it ends first, b"" if it takes longer than `seconds`."""
        number = next(self._numbers)
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        self.send(Frame(Kind.CALL, number, topic, payload))
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            _log.warning("Worker %d has not answered %s in %g s", self.number, topic, seconds)
            return b""
        finally:
            del self._calls[number]

    def beat(self) -> bool:
        """Sends a PING, or kills the process and returns False if it missed too many.

        Must be called every second. A process is killed if none of its threads has answered for ten
        beats, or if its event loop, which serves all REST clients, has not run for sixty. Beats are
        counted, not seconds, so that no worker is killed after a machine has slept. A process that
        is loading gets no PING: that may take any time, and no client waits for it.
        """
        if not self.is_ready:
            return True
        if self._silent >= _MOST_SILENT or self._behind >= _MOST_BEHIND:
            beats = max(self._silent, self._behind)
            _log.error("Worker %d has not answered for %d s. It is killed", self.number, beats)
            self.state = WorkerState.CLOSING
            self.kill()
            return False
        self._silent += 1
        self.send(Frame(Kind.PING))
        return True

    def outdate(self) -> None:
        """Kills it, so that it starts again."""
        self.is_outdated = True
        self.kill()

    async def drain(self) -> bool:
        """Ends it for good and returns whether it ended cleanly; kills one that does not serve."""
        self._is_over = True
        if self.state not in {WorkerState.SERVING, WorkerState.CLOSING}:
            self.kill()
            return True
        self._signal(signal.SIGTERM)
        return not self._process or await self._process.wait() == 0

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def receive(self, frame: Frame) -> None:
        """Updates the state from a frame, and passes on what concerns the parent as well."""
        match frame.kind:
            case Kind.REPLY:
                if waiting := self._calls.get(frame.number):
                    waiting.set_result(frame.payload)
                return
            case Kind.PONG:
                self._silent, self._behind = 0, frame.number
                lacked, self.lacks_models = self.lacks_models, bool(frame.payload)
                if lacked == self.lacks_models:
                    return
            case Kind.READY:
                self.state, self.lacks_models = WorkerState.READY, bool(frame.number)
            case Kind.SERVING:
                self.state = WorkerState.SERVING
            case Kind.CLOSING:
                self.state = WorkerState.CLOSING
            case Kind.FAILED:
                self.error = of_code(frame.number, frame.payload.decode())
        self._told(self, frame)

    def _clear_up(self, pid: int) -> None:
        self.state = WorkerState.ENDED
        if self._writer:
            self._writer.close()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_result(None)
        remove_downloads(pid)


def _ended(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
