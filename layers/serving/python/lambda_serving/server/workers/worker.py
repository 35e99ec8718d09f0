"""A worker's side of the socket to its parent."""

import json
import logging
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from lambda_serving.config.server_flags import Settings
from lambda_serving.core import threads
from lambda_serving.core.server_core import ServerCore
from lambda_serving.errors import ServingError
from lambda_serving.server.workers.frames import Frame, Kind, split
from lambda_serving.server.workers.reloading import reloading

if TYPE_CHECKING:
    from lambda_serving.api.rpc.services import Reload
    from lambda_serving.server.http_server import Server

__all__ = ["Worker"]

_log = logging.getLogger(__name__)
_CALLS = 4
_RELEASE = "release"


class Worker:
    """One of several processes on the same ports: a `serve.Process` that can query the others.

    `listeners` are the REST sockets of all workers; `number` is this worker's index. The parent
    holds every socket too, so that connections that wait at a dead worker go to another one. `end`
    is called when the parent has ended.
    """

    def __init__(
        self,
        control: socket.socket,
        listeners: Sequence[socket.socket],
        number: int,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.kept: dict[str, bytes] = {}
        """By topic, the last payload gathered with `keep` before this process began."""
        self._control = control
        self._file = control.makefile("rb")
        self._sending = threading.Lock()
        self._listeners = listeners
        self._number = number
        self._end = end
        self._answers: dict[str, Callable[[bytes], bytes]] = {_RELEASE: self._release}
        self._asked: dict[int, Future[list[bytes]]] = {}
        self._numbers = count()
        self._calls = ThreadPoolExecutor(_CALLS, "worker")
        self._may_open = threading.Event()
        self._others = b""
        self._listening = threading.Lock()
        self._server: Server | None = None
        self._core: ServerCore | None = None
        self._is_replacement = False
        self._behind = 0

    @property
    def listener(self) -> socket.socket:
        """This worker's own socket."""
        return self._listeners[self._number]

    def start(self) -> Settings:
        """Waits for the settings; afterwards a thread obeys the parent."""
        while frame := Frame.read_from(self._file):
            if frame.kind is Kind.START:
                self._is_replacement = bool(frame.number)
                threads.start("parent", self._obey, daemon=True)
                return Settings(**json.loads(frame.payload))
            self.kept[frame.topic] = frame.payload
        sys.exit(1)

    def answer(self, topic: str, give: Callable[[bytes], bytes]) -> None:
        """Makes this worker answer gathers of a topic with `give(payload)`.

        `give` runs in one of a few threads. If it raises, the error is logged and the answer is
        b"". Must be called before `loaded`, so that no gather arrives too early.
        """
        self._answers[topic] = give

    def gather(self, topic: str, payload: bytes, *, keep: bool = False) -> list[bytes]:
        """The answers of all workers, including this one, to `payload` under `topic`.

        Blocks until all have answered; any thread may call it, except those that run an `answer`. A
        worker that is not ready, or ends meanwhile, is left out; one that fails, or takes longer
        than five seconds, counts as b"". Gathers of one topic reach all workers in the same order,
        one after another. With `keep` there is no time limit, workers that start later find the
        payload in `kept`, and workers that are loading start again.
        """
        number, found = next(self._numbers), Future[list[bytes]]()
        self._asked[number] = found
        self._send(Frame(Kind.KEEP if keep else Kind.ASK, number, topic, payload))
        return found.result()

    def gatherer(
        self, topic: str, give: Callable[[bytes], bytes]
    ) -> Callable[[bytes], list[bytes]]:
        self.answer(topic, give)
        return partial(self.gather, topic)

    def failed_to_load(self, error: ServingError) -> None:
        """Raises the error, unless other workers already serve; then this one joins them."""
        if not self._is_replacement:
            raise error
        _log.error("%s. The models that did load are served", error)

    def loaded(self, core: ServerCore) -> "Reload":
        reload = reloading(self, core)
        self._core = core
        self._send(Frame(Kind.READY, int(not core.is_complete())))
        self._may_open.wait()
        return reload

    def opened(self, server: "Server") -> None:
        with self._listening:
            self._server = server
            self._accept()
        self._send(Frame(Kind.SERVING))

    def closing(self) -> None:
        self._send(Frame(Kind.CLOSING))

    def failed(self, error: ServingError) -> None:
        """Sends the error to the parent, which reports it."""
        self._send(Frame(Kind.FAILED, error.code, payload=str(error).encode()))

    def _obey(self) -> bool:
        try:
            frame = Frame.read_from(self._file)
        except (OSError, ValueError, struct.error):
            _log.exception("Invalid message from the parent process: this worker ends")
            frame = None
        if frame is None:
            self._file.close()
            self._end(1)  # the parent has been killed
            return False
        match frame.kind:
            case Kind.CALL:
                threads.submit(self._calls, partial(self._call, frame))
            case Kind.PING:
                self._pong()
            case Kind.ANSWERS:
                self._asked.pop(frame.number).set_result(split(frame.payload))
            case Kind.LISTEN:
                try:
                    with self._listening:
                        self._others = bytes(set(frame.payload) - {self._number})
                        self._accept()
                finally:
                    self._may_open.set()
        return True

    def _pong(self) -> None:
        lacking = bool(self._core and not self._core.is_complete())
        self._send(Frame(Kind.PONG, self._behind, payload=bytes(lacking)))
        if self._server:
            self._behind += 1
            self._server.soon(self._keep_up)

    def _keep_up(self) -> None:
        self._behind = 0

    def _call(self, frame: Frame) -> None:
        try:
            answer = self._answers[frame.topic](frame.payload)
        except Exception:  # noqa: BLE001 - the asking worker waits for an answer
            _log.exception("Could not answer %s", frame.topic)
            answer = b""
        self._send(Frame(Kind.REPLY, frame.number, payload=answer))

    def _accept(self) -> None:
        if self._server:
            self._server.accept_from([self._listeners[number] for number in self._others])

    def _release(self, _: bytes) -> bytes:
        """Closes the sockets of the other workers, so that each can close its own for good."""
        for number, listener in enumerate(self._listeners):
            if number != self._number:
                listener.close()
        return b""

    def _send(self, frame: Frame) -> None:
        with self._sending:
            self._control.sendall(bytes(frame))
