"""Small requests to servers without pause: `python pings.py NAME=HOST:PORT:PROTOCOL ...`.

PROTOCOL is `http`, which asks for the server's health and for a prediction in turn, or `grpc`. A
thread for each target sends a request every five milliseconds. For each line of standard input, the
process prints a line of JSON: the longest time in seconds that each target took to answer since the
last line, including requests that are not answered yet.
"""

import json
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from itertools import cycle
from threading import Event, Thread
from time import perf_counter
from typing import Any

import grpc

from support.rpc_client import path_of, predict_request

_PAUSE_SECONDS = 0.005
_MODEL = "tiny"


class _Target:
    """Asks a server on one connection, and keeps the longest time that an answer took."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._longest = 0.0
        self._asked: float | None = None
        ask()
        Thread(target=self._go_on, daemon=True).start()

    def longest(self) -> float:
        """Seconds, since this was last asked for."""
        asked, longest, self._longest = self._asked, self._longest, 0.0
        return longest if asked is None else max(longest, perf_counter() - asked)

    def _go_on(self) -> None:
        pause = Event()
        while True:
            self._asked = asked = perf_counter()
            self._ask()
            self._asked = None
            self._longest = max(self._longest, perf_counter() - asked)
            pause.wait(_PAUSE_SECONDS)


def _http(address: str) -> Callable[[], object]:
    connection = HTTPConnection(address, timeout=600)
    predict = f"/v1/models/{_MODEL}:predict"
    requests = cycle([("GET", "/healthz", None), ("POST", predict, '{"instances": [1.0]}')])

    def ask() -> None:
        connection.request(*next(requests))
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(f"{address} answered {answer.status}: {answer.read()!r}")
        answer.read()

    return ask


def _grpc(address: str) -> Callable[[], object]:
    request = predict_request(_MODEL, {"x": [1]}).SerializeToString()
    method: Any = grpc.insecure_channel(address).unary_unary(path_of("Predict"))
    return lambda: method(request, timeout=600)


_PROTOCOLS = {"http": _http, "grpc": _grpc}


def main(targets: list[str]) -> None:
    """Asks until the server is gone."""
    asked = {}
    for target in targets:
        name, _, rest = target.partition("=")
        address, _, protocol = rest.rpartition(":")
        asked[name] = _Target(_PROTOCOLS[protocol](address))
    for _ in sys.stdin:
        longest = {name: each.longest() for name, each in asked.items()}
        sys.stdout.write(json.dumps(longest) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
