"""A worker's side of the socket to its parent: what it is told, and what it may ask."""

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

from lambda_serving.config.settings import Settings
from lambda_serving.core import threads
from lambda_serving.core.server_core import ServerCore
from lambda_serving.errors import ServingError
from lambda_serving.server.workers.frames import Frame, Kind, split

if TYPE_CHECKING:
    from lambda_serving.api.rpc.services import Reload
    from lambda_serving.server.http_server import Server

__all__ = ["Worker"]

_log = logging.getLogger(__name__)
_CALLS = 4
_RELEASE = "release"


class Worker:
    """One of several processes on the same ports: a `server.Process`, and `gather` among all.

    `listeners` are the REST sockets of all workers, `number` is its own. Each lies in the parent,
    too, so that what has connected is not lost with a worker: another one takes it. `end` ends the
    process at once when its parent has ended.
    """

    def __init__(
        self,
        control: socket.socket,
        listeners: Sequence[socket.socket],
        number: int,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.kept: dict[str, bytes] = {}
        """What was gathered to be kept before this process began, by topic."""
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
        """The socket that is this worker's own."""
        return self._listeners[self._number]

    def start(self) -> Settings:
        """The settings to serve by; from then on a thread follows what the parent says."""
        while frame := Frame.read_from(self._file):
            if frame.kind is Kind.START:
                self._is_replacement = bool(frame.number)
                threads.start("parent", self._follow, daemon=True)
                return Settings(**json.loads(frame.payload))
            self.kept[frame.topic] = frame.payload
        sys.exit(1)

    def answer(self, topic: str, give: Callable[[bytes], bytes]) -> None:
        """Makes `give` what this worker answers to a gather of that topic.

        It runs in a thread of its own, of which there are a few. What it does not catch is logged,
        and b"" is the answer. To be called before `loaded`, so that no gather comes too early.
        """
        self._answers[topic] = give

    def gather(self, topic: str, payload: bytes, *, keep: bool = False) -> list[bytes]:
        """What every worker, this one among them, answers to `payload` under `topic`.

        Blocks until all have answered; any thread may call it but those of `answer`. A worker that
        is not ready, or ends meanwhile, is left out; b"" is one that could not answer, or not in
        some seconds. Gathers of one topic come one after another and reach all workers in the same
        order. With `keep`, they get all the time they need, workers that start later find the
        payload in `kept`, and those that are starting start anew.
        """
        number, found = next(self._numbers), Future[list[bytes]]()
        self._asked[number] = found
        self._send(Frame(Kind.KEEP if keep else Kind.ASK, number, topic, payload))
        return found.result()

    def asking(self, topic: str, give: Callable[[bytes], bytes]) -> Callable[[bytes], list[bytes]]:
        self.answer(topic, give)
        return partial(self.gather, topic)

    def failed_to_load(self, error: ServingError) -> None:
        """Raises the error, unless others serve already: then what has loaded must do for now."""
        if not self._is_replacement:
            raise error
        _log.error("%s. What has loaded is served", error)

    def loaded(self, core: ServerCore) -> "Reload":
        from lambda_serving.server.workers.reloading import reloading

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
        """Leaves it to the parent to tell of it."""
        self._send(Frame(Kind.FAILED, error.code, payload=str(error).encode()))

    def _follow(self) -> bool:
        try:
            frame = Frame.read_from(self._file)
        except (OSError, ValueError, struct.error):
            _log.exception("What the parent says cannot be understood: this worker ends")
            frame = None
        if frame is None:
            self._file.close()
            self._end(1)  # its parent has been killed
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
        except Exception:  # noqa: BLE001 - the end of a thread: the asker would wait for ever
            _log.exception("Could not answer %s", frame.topic)
            answer = b""
        self._send(Frame(Kind.REPLY, frame.number, payload=answer))

    def _accept(self) -> None:
        if self._server:
            self._server.accept_from([self._listeners[number] for number in self._others])

    def _release(self, _: bytes) -> bytes:
        """Before all workers drain, the sockets of the others: each closes its own for good."""
        for number, listener in enumerate(self._listeners):
            if number != self._number:
                listener.close()
        return b""

    def _send(self, frame: Frame) -> None:
        with self._sending:
            self._control.sendall(bytes(frame))
