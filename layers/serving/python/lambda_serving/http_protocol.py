"""HTTP/1.1 with clients that stall, drip, never read or send without end: none holds a place.

What uvicorn leaves unbounded is bounded here. A client that the server waits for is cut off after
`patience` seconds without a byte, or when its request arrives more slowly than `_SLOWEST`: with 408
where an answer is still due. A request's head is at most `_LONGEST_HEAD` bytes, else 431. What
follows a refused request is read and dropped, so that its client finds the answer, not a reset.
Rules of that kind: Apache's mod_reqtimeout, nginx's lingering_close. Who offers another protocol,
as Java's client offers h2c with each first request, is answered in this one (RFC 9110, 7.8).
"""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from lambda_serving.rest import errors

__all__ = ["protocol"]

_SLOWEST = 16 * 2**10  # bytes a second
_LONGEST_HEAD = 64 * 2**10
_LOOKS = 4  # within the patience
_LAST_PATIENCE = 5.0  # seconds, once the server is to end
_FRAMING = {b"content-length", b"transfer-encoding"}


def protocol(patience: float) -> type[asyncio.Protocol]:
    """What uvicorn takes as its `http`: a protocol with so many seconds of patience."""
    return cast("type[asyncio.Protocol]", partial(_Protocol, patience))


class _Protocol(HttpToolsProtocol):
    """One connection; looks at itself from time to time, which costs requests nothing."""

    def __init__(
        self,
        patience: float,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._patience = patience
        self._in_head = self._in_message = self._goes_on = False
        self._began = 0.0
        self._head = self._wanted = self._received = 0
        self._seen, self._since = (0, 0), self.loop.time()
        self._ending: _EndingTransport
        self._next_look: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self._ending = _EndingTransport(transport, self)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        began, in_head = self._began, self._in_head
        if in_head and self._ending.ended:
            return
        self._parse(data)
        if in_head and self._in_head and began == self._began:
            self._head += len(data)
            if self._head > _LONGEST_HEAD:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self._answer(status, f"The URL and the headers are over {_LONGEST_HEAD} bytes.")
                self._ending.close()

    def on_message_begin(self) -> None:
        if self._goes_on:
            return
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._began = self.loop.time()
        self._head = self._wanted = 0

    def on_url(self, url: bytes) -> None:
        if not self._goes_on:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._goes_on:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._goes_on:
            return
        self._in_head = False
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", self._ending)

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            self._wanted += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # so says the parser, as it would now read another protocol
        self._in_message = False
        super().on_message_complete()
        if self._ending.ended:
            self.transport.close()

    def shutdown(self) -> None:
        self._patience = min(self._patience, _LAST_PATIENCE)
        self._look()
        super().shutdown()

    @property
    def expects_more(self) -> bool:
        """Whether the client has not sent all of its request."""
        return self._in_message

    @property
    def _next_waits(self) -> bool:
        """Whether what arrives follows a request that is not answered yet."""
        return self._in_head and self.cycle is not None and not self.cycle.response_complete

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._answer(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.")
            self.transport.close()

    def _go_on(self, rest: bytes) -> None:
        """Parses the body of a request that offers another protocol, and what follows it."""
        framing = [name + b": " + value for name, value in self.headers if name in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self._goes_on = True
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
        self._goes_on = False
        self._parse(rest)

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(self._patience / _LOOKS, self._look)

    def _look(self) -> None:
        self._next_look.cancel()
        unread = self.transport.get_write_buffer_size()
        arriving = self._in_message and not self.flow.read_paused and not self._next_waits
        seen, now = (self._received, unread), self.loop.time()
        if seen != self._seen or not (unread or arriving or self.cycle is None):
            self._seen, self._since = seen, now
        allowed = self._patience + self._wanted / _SLOWEST
        if now - self._since > self._patience or (arriving and now - self._began > allowed):
            self._cut_off(unread)
        self._look_later()

    def _cut_off(self, unread: int) -> None:
        if unread:
            self.transport.abort()
            return
        answered = self._ending.ended or not self._in_message
        if not answered and (self._in_head or not self.cycle.response_started):
            self._answer(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
        self.transport.close()

    def _answer(self, status: HTTPStatus, message: str) -> None:
        """The last answer of a connection; none if the one to an earlier request is due."""
        if not self._next_waits:
            body = errors.body(message)
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(body) + b"\r\n" + body)


class _EndingTransport:
    """A connection's transport, which is closed only when all of the request has come.

    Data that comes to a closed socket resets it, and takes the answer away from the client.
    """

    def __init__(self, transport: asyncio.Transport, connection: _Protocol) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.ended = False
        self._transport = transport
        self._connection = connection

    def close(self) -> None:
        if not self._connection.expects_more:
            self._transport.close()
        elif not self.ended and not self._transport.is_closing():
            self.ended = True
            self._transport.write_eof()
