"""The answers to requests that end early, are broken, or are framed in odd ways."""

import asyncio
import logging
import random
import re
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from threading import Thread

import pytest
import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from lambda_serving.server.http_protocol import protocol
from support.server_process import until

_PATIENCE = 1.0
_KEYS = count()
_POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CHUNKS = b"2\r\nhi\r\n0\r\n\r\n"
_OFFER = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
_GOOD = _POST + b"Content-Length: 2\r\n\r\nhi"
_ANSWERED = [b"</echo hi>"]


class _Served:
    """A server of an app that answers `<path body>`, to `/held/KEY` not before `/go/KEY`.

    `/lost/KEY` is not answered; when its client has gone away, it does what `/go/KEY` does.
    """

    def __init__(self) -> None:
        config = uvicorn.Config(
            self._app,
            http=protocol(_PATIENCE),
            ws="none",
            interface="asgi3",
            log_config=None,
            lifespan="off",
        )
        self.server = uvicorn.Server(config)
        self._held: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def _app(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body, more = body + message["body"], message["more_body"]
        _, what, *key = scope["path"].split("/")
        if what == "lost":
            while (await receive())["type"] != "http.disconnect":
                pass
            self._held[key[0]].set()
            return
        if what == "held":
            await self._held[key[0]].wait()
        elif what == "go":
            self._held[key[0]].set()
        answer = b"<%s %s>" % (scope["path"].encode(), body)
        length = b"%d" % len(answer)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", length)],
                "trailers": False,
            }
        )
        await send({"type": "http.response.body", "body": answer, "more_body": False})

    def connect(self) -> socket.socket:
        [server] = self.server.servers
        return socket.create_connection(server.sockets[0].getsockname(), timeout=300)

    def said(self, sent: bytes, go: str = "") -> bytes:
        """Everything sent to a client that sends only this, after `/go/KEY` if it has one."""
        with self.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            if go:
                assert self.said(f"GET /go/{go} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            said = b""
            while chunk := connection.recv(2**16):
                said += chunk
        return said


@pytest.fixture(scope="module")
def served() -> Iterator[_Served]:
    served = _Served()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = Thread(target=served.server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: served.server.started)
        yield served
        served.server.should_exit = True
        thread.join()


def _statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", said)]


def _answers(said: bytes) -> list[bytes]:
    return re.findall(rb"<[^>]*>", said)


@pytest.mark.parametrize(
    ("behind", "statuses"),
    [
        (b"", [200]),
        (b"\0\1rubbish\r\n\r\n", [200, 400]),
        (b"?" * 500_000, [200, 400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [200, 400]),
        (b"POST / HTTP/1.1\r\nA: " + b"a" * 1_000_000, [200, 431]),
        (b"POST / HTTP/1.1\r\nHost:", [200]),
        (_POST + b"Content-Length: 9\r\n\r\nhi", [200]),
        (_POST + _CHUNKED + b"\r\n2\r\nhi", [200]),
        (_POST + _CHUNKED + b"\r\nzz\r\n", [200, 400]),
        (_POST + _OFFER + b"Transfer-Encoding: identity\r\n\r\nhi", [200, 400]),
    ],
    ids=[
        *("end", "rubbish", "much", "http2", "long head"),
        *("part of a head", "part of a body", "part of chunks", "no chunk", "upgrade"),
    ],
)
@pytest.mark.parametrize("held", [1, 2])
@pytest.mark.parametrize("header", [b"", _OFFER], ids=["plain", "offer"])
def test_request_that_came_whole_is_answered_whatever_follows_it(
    served: _Served, header: bytes, held: int, behind: bytes, statuses: list[int]
) -> None:
    key = str(next(_KEYS))
    head = f"POST /held/{key} HTTP/1.1\r\nContent-Length: 2\r\n".encode() + header
    said = served.said(held * (head + b"\r\nhi") + behind, go=key)
    assert _statuses(said) == [200] * (held - 1) + statuses
    assert _answers(said) == [f"</held/{key} hi>".encode()] * held


@pytest.mark.parametrize(
    "sent", [b"", _POST, _POST + b"Content-Length: 9\r\n\r\nhi", _POST + _CHUNKED + b"\r\n2\r\nhi"]
)
def test_part_of_a_request_is_not_answered(served: _Served, sent: bytes) -> None:
    assert served.said(sent) == b""


@pytest.mark.parametrize("offer", [b"", _OFFER], ids=["plain", "offer"])
@pytest.mark.parametrize(
    ("framed", "status"),
    [
        (b"Content-Length: 2\r\n\r\nhi", 200),
        (b"Content-Length: 2 \r\n\r\nhi", 200),
        (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 400),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", 400),
        (b"Content-Length: 2, 2\r\n\r\nhi", 400),
        (b"Content-Length: +2\r\n\r\nhi", 400),
        (b"Content-Length: -2\r\n\r\nhi", 400),
        (b"Content-Length: 0x2\r\n\r\nhi", 400),
        (b"Content-Length: 99999999999999999999\r\n\r\nhi", 400),
        (b"Content-Length:\r\n\r\nhi", 400),
        (_CHUNKED + b"\r\n" + _CHUNKS, 200),
        (b"Transfer-Encoding: CHUNKED\r\n\r\n" + _CHUNKS, 200),
        (_CHUNKED + b"\r\n2;a=b\r\nhi\r\n0\r\nA: b\r\n\r\n", 200),
        (_CHUNKED + b"Content-Length: 2\r\n\r\n" + _CHUNKS, 400),
        (b"Content-Length: 2\r\n" + _CHUNKED + b"\r\n" + _CHUNKS, 400),
        (_CHUNKED + _CHUNKED + b"\r\n" + _CHUNKS, 400),
        (b"Transfer-Encoding: chunked, chunked\r\n\r\n" + _CHUNKS, 400),
        (b"Transfer-Encoding: chunked, identity\r\n\r\n" + _CHUNKS, 400),
        (b"Transfer-Encoding: identity\r\n\r\nhi", 400),
        (b"Transfer-Encoding: xchunked\r\n\r\n" + _CHUNKS, 400),
        (b"Transfer-Encoding: \x0bchunked\r\n\r\n" + _CHUNKS, 400),
        (b"Transfer-Encoding : chunked\r\n\r\n" + _CHUNKS, 400),
        (b"Transfer-Encoding:\r\n chunked\r\n\r\n" + _CHUNKS, 400),
        (b"Transfer-Encoding:\r\n\r\n" + _CHUNKS, 400),
        (_CHUNKED + b"\r\n0x2\r\nhi\r\n0\r\n\r\n", 400),
        (_CHUNKED + b"\r\n-2\r\nhi\r\n0\r\n\r\n", 400),
        (_CHUNKED + b"\r\n2\nhi\n0\n\n", 400),
        (_CHUNKED + b"\r\nfffffffffffffffff\r\nhi", 400),
        (_CHUNKED + b"\r\n2\r\nhi!\r\n0\r\n\r\n", 400),
    ],
)
def test_body_is_framed_in_one_way_or_refused(
    served: _Served, framed: bytes, status: int, offer: bytes
) -> None:
    """If proxies and servers read framing differently, one request could hide in another."""
    said = served.said(_POST + offer + framed)
    assert _statuses(said) == [status]
    assert _answers(said) == (_ANSWERED if status == 200 else [])


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0", b"HTTP/2.0, h2c", b""])
def test_offer_of_any_other_protocol_is_answered_in_this_one(
    served: _Served, protocol: bytes
) -> None:
    offer = b"GET /echo HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    said = b""
    with served.connect() as connection:
        connection.sendall(2000 * offer + _GOOD)
        while not said.endswith(_ANSWERED[-1]):  # its end would start the patience
            chunk = connection.recv(2**16)
            assert chunk, said
            said += chunk
    assert _answers(said) == [b"</echo >"] * 2000 + _ANSWERED


@pytest.mark.parametrize("behind", [b"", _GOOD, _GOOD + _POST])
def test_request_is_told_that_its_client_went_away(served: _Served, behind: bytes) -> None:
    key = str(next(_KEYS))
    with served.connect() as connection:
        connection.sendall(f"GET /lost/{key} HTTP/1.1\r\n\r\n".encode() + behind)
        until(lambda: served.server.server_state.tasks)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert served.said(f"GET /held/{key} HTTP/1.1\r\n\r\n".encode())


@pytest.mark.parametrize("start", [b"\r\n2;", b"\r\n2\r\nhi\r\n0\r\nA: "], ids=["chunk", "trailer"])
def test_data_outside_a_body_is_bounded(served: _Served, start: bytes) -> None:
    said = served.said(_POST + _CHUNKED + start + b"a" * 1_000_000)
    assert _statuses(said) == [431]


def test_client_that_sends_only_empty_lines_is_cut_off(served: _Served) -> None:
    with served.connect() as connection:
        connection.settimeout(0.1)
        for _ in range(1000):  # far longer than the patience
            try:
                connection.sendall(b"\r\n")
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:  # it was reset
                return
    pytest.fail("The connection is still open")


_PIECES = [
    *(_POST, _OFFER, _CHUNKED, _CHUNKS, _GOOD, b"Transfer-Encoding: identity\r\n", b"\r\n", b"hi"),
    *(b"2\r\nhi\r\n", b"0\r\n\r\n", b"x" * 70_000, b"\0\xff", b"Expect: 100-continue\r\n"),
    *(
        b"Content-Length: 2\r\n",
        _POST + b"Content-Length: 300000\r\n\r\n",
        b"Connection: close\r\n",
    ),
    *(b"GET /echo HTTP/1.0\r\n\r\n", _POST + _OFFER + b"Content-Length: 2\r\n\r\nhi"),
]


@pytest.mark.parametrize("seed", range(4))
def test_no_sequence_of_pieces_upsets_the_server(
    served: _Served, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(seed)  # noqa: S311 - no secret
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            with served.connect() as connection, suppress(OSError):
                _attack(connection, draw)
        until(lambda: not served.server.server_state.connections)
        until(lambda: not served.server.server_state.tasks)
    assert not caplog.records
    assert _answers(served.said(_GOOD)) == _ANSWERED


def _attack(connection: socket.socket, draw: random.Random) -> None:
    """Sends what comes to mind, reads some of what is said, and ends in one of three ways."""
    for _ in range(draw.randint(1, 6)):
        connection.sendall(b"".join(draw.choices(_PIECES, k=draw.randint(1, 6))))
        if draw.random() < 0.2:
            connection.settimeout(0.02)
            with suppress(TimeoutError):
                connection.recv(100)
            connection.settimeout(60)
    match draw.randrange(3):
        case 0:  # a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case 1:
            connection.shutdown(socket.SHUT_WR)
