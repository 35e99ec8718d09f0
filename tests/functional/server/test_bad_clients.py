"""REST clients that stall, drip, go away, never read, or send what is no request, and many idle."""

import resource
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from support.server_process import MNIST, Server, running, until

_FLAGS = ("--model_name=MLP", f"--model_base_path={MNIST / 'saved'}")
_PATH = "/v1/models/MLP:predict"
_BODY = (MNIST / "request.json").read_bytes()
_POST = f"POST {_PATH} HTTP/1.1\r\nHost: server\r\n".encode()
_LARGEST = 6 * 2**20
_ALL = 256 * 2**20
_IMPATIENT = "--client_timeout_seconds=1"


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    with running(*_FLAGS, _IMPATIENT) as server:
        yield server


@contextmanager
def _connected(url: str) -> Iterator[socket.socket]:
    with closing(_connect(url)) as connection:
        yield connection


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=300)


def _said(connection: socket.socket) -> bytes:
    """Everything that the server sends until it closes the connection."""
    said = b""
    while chunk := connection.recv(2**16):
        said += chunk
    return said


def _sized(length: int) -> bytes:
    return _POST + b"Content-Length: %d\r\n\r\n" % length


def _answers(url: str) -> None:
    answer = httpx.post(url + _PATH, content=_BODY, timeout=300)
    assert answer.status_code == 200
    assert answer.json()["predictions"]


@pytest.mark.parametrize("sent", [_POST, _sized(100) + b"{"], ids=["head", "body"])
def test_client_that_stalls_is_told_and_cut_off(impatient: Server, sent: bytes) -> None:
    url, _ = impatient
    with _connected(url) as connection:
        connection.sendall(sent)
        _answers(url)
        said = _said(connection)
    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert said.endswith(b'\r\n\r\n{"error":"The request did not arrive in time."}')


def test_client_that_says_nothing_is_cut_off(impatient: Server) -> None:
    with _connected(impatient[0]) as connection:
        assert _said(connection) == b""


@pytest.mark.parametrize("sent", [b"GET /v1/models/MLP HTTP/1.1\r\nA: ", _sized(_LARGEST)])
def test_client_that_drips_is_cut_off(impatient: Server, sent: bytes) -> None:
    with _connected(impatient[0]) as connection:
        connection.sendall(sent)
        connection.settimeout(0.2)
        said = b""
        while not said:
            connection.sendall(b"x")
            with suppress(TimeoutError):
                said = connection.recv(2**16)
        assert said.startswith(b"HTTP/1.1 408 ")


def test_client_that_leaves_its_answers_unread_is_cut_off(impatient: Server) -> None:
    url, process = impatient
    server, before = psutil.Process(process.pid), _connections(process)
    path = b"/v1/models/" + b"x" * 60_000  # which comes back in the answer
    with _connected(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        with suppress(TimeoutError, ConnectionError):
            while True:
                connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: server\r\n\r\n")
        until(lambda: _connections(process) == before)
    assert server.is_running()


def _connections(process: "subprocess.Popen[str]") -> int:
    return len(psutil.Process(process.pid).net_connections("tcp"))


@pytest.mark.parametrize("sent", [_sized(100) + b"{", _sized(len(_BODY)) + _BODY])
def test_client_that_goes_away_hurts_nobody(sent: bytes) -> None:
    with running(*_FLAGS) as (url, process):
        for _ in range(20):
            with _connected(url) as connection:
                connection.sendall(sent)
        _answers(url)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0
    assert "ERROR" not in said
    assert "Traceback" not in said


def _endless(url: str, framing: bytes, piece: bytes) -> bytes:
    """The answer to a client that sends for as long as the server lets it."""
    with _connected(url) as connection:
        connection.sendall(_POST + framing)
        sender = Thread(target=_send, args=(connection, piece))
        sender.start()
        said = b""
        while not said.endswith(b"}") and (chunk := connection.recv(2**16)):
            said += chunk
        connection.shutdown(socket.SHUT_RDWR)
        sender.join()
    return said


def _send(connection: socket.socket, piece: bytes) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(piece)


@pytest.mark.parametrize(
    ("framing", "piece", "status"),
    [
        (b"Content-Length: 2000000000\r\n\r\n", b" " * 2**16, b"413 Request Entity Too Large"),
        (
            b"Transfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b" " * 2**16 + b"\r\n",
            b"413 Request Entity Too Large",
        ),
        (b"A: ", b"a" * 2**16, b"431 Request Header Fields Too Large"),
    ],
    ids=["sized", "chunked", "header"],
)
def test_request_that_is_too_large_is_refused_while_it_comes(
    impatient: Server, framing: bytes, piece: bytes, status: bytes
) -> None:
    said = _endless(impatient[0], framing, piece)
    assert said.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b'{"error":"The ' in said


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
def test_answer_to_a_body_that_is_too_large_is_there_after_all_was_sent(
    impatient: Server, header: bytes
) -> None:
    size = 4 * _LARGEST
    with _connected(impatient[0]) as connection:
        connection.sendall(_POST + header + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(4):
            connection.sendall(b" " * _LARGEST)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT server:443 HTTP/1.1\r\nHost: server\r\n\r\n",
        _POST + b"Content-Length: many\r\n\r\n",
        b"\r\n\r\n\0",
    ],
    ids=["tls", "http2", "connect", "length", "zero"],
)
def test_data_that_is_not_a_request_is_refused(impatient: Server, sent: bytes) -> None:
    with _connected(impatient[0]) as connection:
        connection.sendall(sent)
        said = _said(connection)
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert said.endswith(b'{"error":"The request is not valid HTTP/1.1."}')


def test_http_1_0_and_pipelined_requests_are_answered(impatient: Server) -> None:
    with _connected(impatient[0]) as connection:
        one = _sized(len(_BODY)) + _BODY
        connection.sendall(3 * one + one.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert _said(connection).count(b'{"predictions":') == 4


_OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(_BODY) + _BODY + b"\r\n0\r\n\r\n",
    ],
    ids=["sized", "chunked"],
)
def test_client_that_offers_http2_is_answered_in_http1(impatient: Server, framed: bytes) -> None:
    """As Java's does, again and again on one connection."""
    with _connected(impatient[0]) as connection:
        connection.sendall(
            2 * (_POST + _OFFER + framed) + _POST + b"Connection: close\r\n" + framed
        )
        assert _said(connection).count(b'{"predictions":') == 3


def test_bodies_that_wait_are_bounded_together() -> None:
    clients, left = 50, 1000
    with running(*_FLAGS) as (url, process), ExitStack() as stack:
        memory = psutil.Process(process.pid).memory_info
        before = memory().rss
        stalled = [stack.enter_context(_connected(url)) for _ in range(clients)]
        for connection in stalled:
            connection.sendall(_sized(_LARGEST) + b" " * (_LARGEST - left))
        too_many = clients - _ALL // (_LARGEST - left)
        until(lambda: len(_told(stalled)) >= too_many)
        _answers(url)
        assert memory().rss - before < 1.5 * _ALL
        refused = _told(stalled)
        assert [each.recv(13) for each in refused] == [b"HTTP/1.1 503 "] * too_many
        for connection in stalled:
            connection.close()
        large = b" " * (_LARGEST - len(_BODY)) + _BODY
        until(lambda: httpx.post(url + _PATH, content=large, timeout=300).status_code == 200)


def _told(connections: Sequence[socket.socket]) -> list[socket.socket]:
    """The connections to which the server has sent something."""
    return select.select(connections, [], [], 0)[0]


def test_idle_connections_keep_nobody_out() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        url, process = stack.enter_context(running(*_FLAGS, under=["prlimit", "--nofile=256:"]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1000):
            stack.enter_context(_connected(url))
        _answers(url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0


@pytest.mark.parametrize("sent", [_POST, _sized(100) + b"{"], ids=["head", "body"])
def test_client_that_stalls_does_not_hinder_the_end(sent: bytes) -> None:
    with running(*_FLAGS) as (url, process), _connected(url) as connection:
        connection.sendall(sent)
        _answers(url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
