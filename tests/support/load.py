"""Sends requests at a steady rate, without waiting for earlier answers."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from time import monotonic

__all__ = ["Answer", "Load", "steady"]

_THREADS = 16
_SECONDS = 300
_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """When a request was due, sent and answered, by `monotonic`; status 0 without an answer."""

    due: float
    began: float
    ended: float
    status: int
    body: str


class Load:
    """POSTs of one body to one path, by `_THREADS` threads with a connection each."""

    def __init__(self, port: int, path: str, body: bytes, rate: float) -> None:
        self.answers: list[Answer] = []
        self.stopped = threading.Event()
        self._port, self._path, self._body, self._rate = port, path, body, rate
        self._numbers, self._start = itertools.count(), monotonic()

    def send(self) -> None:
        """Sends every request that is this thread's turn, until it is stopped."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        while True:
            due = self._start + next(self._numbers) / self._rate
            if self.stopped.wait(max(0, due - monotonic())):
                break
            self.answers.append(self._ask(connection, due))
        connection.close()

    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def rate(self) -> float:
        """Requests sent a second."""
        sent = sorted(answer.began for answer in self.answers)
        return (len(sent) - 1) / (sent[-1] - sent[0])

    def longest_gap(self) -> float:
        """The longest time without an answer, in seconds."""
        return max(b - a for a, b in pairwise(sorted(answer.ended for answer in self.answers)))

    def _ask(self, connection: HTTPConnection, due: float) -> Answer:
        began = monotonic()
        try:
            connection.request("POST", self._path, self._body, _HEADERS)
            response = connection.getresponse()
            status, body = response.status, response.read().decode()
        except (OSError, HTTPException) as error:
            connection.close()
            status, body = 0, repr(error)
        return Answer(due, began, monotonic(), status, body)


@contextmanager
def steady(port: int, path: str, body: bytes, rate: float) -> Iterator[Load]:
    """Sends requests to a port of this machine during the block, `rate` a second."""
    load = Load(port, path, body, rate)
    threads = [threading.Thread(target=load.send) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopped.set()
        for thread in threads:
            thread.join()
