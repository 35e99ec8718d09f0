"""The stand-in over HTTP: a server for as long as a block lasts."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.aws_plane import aliases, deployments, functions, wire
from support.aws_plane.plane import Plane
from support.aws_plane.refused import Refused
from support.without_sockets import Reply, answering

__all__ = ["listening", "serving"]

_OPERATIONS = {**functions.OPERATIONS, **aliases.OPERATIONS, **deployments.OPERATIONS}


@contextmanager
def serving(plane: Plane) -> Iterator[str]:
    """The endpoint of Lambda and of CodeDeploy; it stops at the end of the block.

    Raises any error of the stand-in itself, or of the functions that it ran.
    """
    try:
        with listening(type("Handler", (_Handler,), {"plane": plane})) as port:
            endpoint = f"http://127.0.0.1:{port}"
            with answering(endpoint, partial(_answer, plane)):
                yield endpoint
    finally:
        for each in plane.background:
            each.join()
    if plane.failures:
        raise plane.failures[0]


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port of a server that answers with `handler`, a thread for each connection."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()


def _perform(plane: Plane, operation: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer of an operation, unless the test interferes."""
    plane.calls.append(operation)
    plane.interfere(operation, "before")
    if operation == "Invoke":  # takes long, and others go on meanwhile
        answer = functions.invoke(plane, given)
    else:
        with plane.lock:
            answer = _OPERATIONS[operation](plane, given)
    plane.interfere(operation, "after")
    return answer


def _answer(
    plane: Plane, method: str, path: str, headers: Mapping[str, str], content: bytes
) -> Reply:
    try:
        operation = wire.find(method, path, headers)
        given = wire.read(operation, path, headers, content)
        service = operation.service_model.service_name
        plane.authorize(headers.get("Authorization", ""), service, operation.name, given)
        return wire.write(operation, _perform(plane, operation.name, given))
    except Refused as refused:
        return _refusal(refused)
    except Exception as error:  # noqa: BLE001 told at the end of `serving`
        plane.failures.append(error)
        return _refusal(Refused(500, "ServiceException", f"The stand-in: {error!r}"))


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing it joins them

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Ends connections that clients keep open."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, *_: object) -> None:
        """Does nothing: the client has gone away."""


class _Handler(BaseHTTPRequestHandler):
    plane: Plane
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers.items())
        self._send(*_answer(self.plane, self.command, self.path, headers, content))

    do_DELETE = do_GET = do_POST = do_PUT = _answer  # noqa: N815 as http.server calls them

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing: pytest shows what failed."""


def _refusal(refused: Refused) -> Reply:
    """The error in both protocols: rest-json has it in a header, json in the body."""
    document = {"__type": refused.code, "message": refused.message}
    return refused.status, {"x-amzn-ErrorType": refused.code}, json.dumps(document).encode()
