"""A client that sends all kinds of requests: `python soaker.py REST_PORT GRPC_PORT SEED`.

Each line of standard input is a number of requests; a twentieth of them is broken. The expected
answers are known; the reply is a line of JSON, a list of those that differ.
"""

import json
import random
import socket
import sys
from collections.abc import Callable
from http.client import HTTPConnection

import grpc

from support.rpc_client import arrays, call, predict_request

_MODEL = "/v1/models/MLP"
_HUGE = 7 * 2**20
"""Bytes; one more than 6 MiB is refused."""
_Ask = Callable[[], str]
"""Sends a request; returns what is wrong with its answer, or an empty string."""


def main(rest_port: int, grpc_port: int, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - the same requests each time
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        good: list[_Ask] = [*_rest(rest_port), lambda: _rpc(channel, "MLP")]
        broken: list[_Ask] = [*_broken(rest_port), lambda: _rpc(channel, "nobody")]
        for line in sys.stdin:
            asked = (
                draw.choice(broken if draw.random() < 0.05 else good) for _ in range(int(line))
            )
            wrong = [said for each in asked if (said := each())]
            sys.stdout.write(json.dumps(wrong) + "\n")
            sys.stdout.flush()


def _rest(port: int) -> list[_Ask]:
    ask = _Rest(port)
    example = {"examples": [{"x": 2.0}]}
    regress = {"signature_name": "regress_x_to_y", **example}
    classify = {"signature_name": "classify_x_to_y", **example}
    return [
        lambda: ask(200, ":predict", {"instances": [2.0]}, {"predictions": [3.0]}),
        lambda: ask(200, ":predict", {"inputs": [2.0]}, {"outputs": [3.0]}),
        lambda: ask(200, ":regress", regress, {"results": [3.0]}),
        lambda: ask(200, ":classify", classify),
        lambda: ask(200, "/metadata"),
        lambda: ask(200, ""),
    ]


def _broken(port: int) -> list[_Ask]:
    ask = _Rest(port)
    return [
        lambda: ask(400, ":predict", b'{"instances": [2.0'),
        lambda: ask(400, ":predict", {"instances": [{"y": 2.0}]}),
        lambda: ask(400, ":predict", {"instances": [[1.0], [2.0, 3.0]]}),
        lambda: ask(400, ":predict", {"signature_name": "none", "instances": [2.0]}),
        lambda: ask(404, "x:predict", {"instances": [2.0]}),
        lambda: ask(413, ":predict", b" " * _HUGE),
        lambda: _gone(port),
    ]


class _Rest:
    """Sends requests over one connection, which it reopens when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, status: int, path: str, body: object = None, answer: object = None) -> str:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = self._connection
        try:
            try:
                connection.request("GET" if data is None else "POST", _MODEL + path, data)
            except (BrokenPipeError, ConnectionResetError):
                if status != 413:  # the server need not read what is too much
                    raise
                connection.close()
                return ""
            response = connection.getresponse()
            content = response.read()
        except OSError as error:
            connection.close()
            return f"{path}: {error!r}"
        if response.status != status:
            return f"{path}: {response.status} in place of {status}: {content[:200]!r}"
        if answer is not None and json.loads(content) != answer:
            return f"{path}: {content[:200]!r}"
        return ""


def _rpc(channel: grpc.Channel, model: str) -> str:
    try:
        response = call(channel, "Predict", predict_request(model, {"x": [2.0]}), timeout=60)
    except grpc.RpcError as error:
        code = error.code()
        return "" if (model, code) == ("nobody", grpc.StatusCode.NOT_FOUND) else f"gRPC: {code}"
    return "" if model == "MLP" and arrays(response)["y"] == [3.0] else f"gRPC: {response}"


def _gone(port: int) -> str:
    """Sends half a request, and closes the connection."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST {_MODEL}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"instances"')
    return ""


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
