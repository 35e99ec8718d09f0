"""HTTP/1.1 that no client can tie up by stalling, dripping, not reading or sending without end.

uvicorn sets no such limits. Here, a client is cut off if it sends nothing for `patience` seconds
while the server waits for it, or if its request arrives slower than `_SLOWEST`; it gets a 408 if
its answer has not begun. A request head over `_LONGEST_HEAD` bytes gets a 431. Data after a refused
request is read and discarded, so that the client sees the answer and not a reset. Apache's
mod_reqtimeout and nginx's lingering_close do the same.

A client that offers another protocol, as Java's offers h2c with each first request, is answered in
HTTP/1.1 (RFC 9110, 7.8). Complete requests are answered in order even if invalid data or the end of
the stream follows; after the end of the stream, for `patience` seconds at most, because a client
that has gone away looks the same.
"""

import asyncio
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from lambda_serving.api.rest import http_status

__all__ = ["protocol"]

_SLOWEST = 16 * 2**10  # bytes a second
_LONGEST_HEAD = 64 * 2**10
_LOOKS = 4  # per patience
_LAST_PATIENCE = 5.0  # seconds, once the server is shutting down
_FRAMING = {b"content-length", b"transfer-encoding"}


def protocol(patience: float) -> type[asyncio.Protocol]:
    """The value for uvicorn's `http` setting: a protocol with `patience` in seconds."""
    return cast("type[asyncio.Protocol]", partial(_Protocol, patience))


class _Arrival(Enum):
    """How much of a request has arrived, which tells whom the connection waits for.

    | state   | all answers sent         | answers due                        |
    | ------- | ------------------------ | ---------------------------------- |
    | NEW     | client, to begin         | does not occur                     |
    | IDLE    | nobody: it is kept alive | server                             |
    | HEAD    | client, to send the rest | server                             |
    | BODY    | client, to send the rest | client, unless it may not send now |
    | REFUSED | client, to close         | server                             |
    | ENDED   | does not occur           | server                             |

    Example: POST /a, then half of the head of POST /b: HEAD with one answer due. However slow /a
    is, the client is not cut off. Once /a is answered, the rest of /b must arrive in time.
    """

    NEW = auto()
    """Nothing has arrived yet."""
    IDLE = auto()
    """The last request has arrived completely."""
    HEAD = auto()
    """In the request line or the headers."""
    BODY = auto()
    """Behind the headers."""
    REFUSED = auto()
    """The connection's last answer is written or due; what still arrives is discarded."""
    ENDED = auto()
    """The client has closed its side."""


_UNFINISHED = {_Arrival.HEAD, _Arrival.BODY, _Arrival.REFUSED}
_OVER = {_Arrival.REFUSED, _Arrival.ENDED}


class _Protocol(HttpToolsProtocol):
    """One connection, which checks its own progress by a timer: requests do not pay for it."""

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
        self._arrival = _Arrival.NEW
        self._repeats_head = False
        self._last_answer = b""
        self._unanswered = 0
        self._running: RequestResponseCycle | None = None
        self._began = self._since = self.loop.time()
        self._head = self._wanted = self._received = 0
        self._seen = (0, 0)
        self._lingering: _LingeringTransport
        self._next_look: asyncio.TimerHandle
        self._last_wait: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self._lingering = _LingeringTransport(transport, self)
        self.flow = FlowControl(cast("asyncio.Transport", self._lingering))
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        if self._last_wait:
            self._last_wait.cancel()
        super().connection_lost(exc)
        if self._running and not self._running.response_complete:  # pipelined requests wait for it
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._arrival in _OVER:
            return
        if self._arrival is _Arrival.HEAD and self._lingering.wrote_eof:
            return
        self._head += len(data)
        self._parse(data)
        if self._head > _LONGEST_HEAD and self._arrival in {_Arrival.HEAD, _Arrival.BODY}:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(status, f"The URL and the headers are over {_LONGEST_HEAD} bytes.")

    def eof_received(self) -> bool:  # type: ignore[override] # as asyncio has it
        """Whether the connection stays open, to answer requests that have arrived completely."""
        self._abandon_arriving()
        self._arrival = _Arrival.ENDED
        if not self._unanswered:
            return False
        # a client that has gone away looks the same
        self._last_wait = self.loop.call_later(self._patience, self.transport.abort)
        return True

    def on_message_begin(self) -> None:
        if self._repeats_head:
            return
        super().on_message_begin()
        self._arrival = _Arrival.HEAD
        self._began = self.loop.time()
        self._head = self._wanted = 0

    def on_url(self, url: bytes) -> None:
        if not self._repeats_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._repeats_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._repeats_head:
            return
        super().on_headers_complete()
        self._arrival = _Arrival.BODY
        self._unanswered += 1
        self.cycle.transport = cast("asyncio.Transport", self._lingering)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._head = 0  # counts bytes outside bodies, trailers included
        if not self.cycle.response_complete:
            self._wanted += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser takes what follows for another protocol
        self._arrival = _Arrival.IDLE
        super().on_message_complete()
        if self._lingering.wrote_eof:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        super().on_response_complete()
        if self._arrival in _OVER and not self._unanswered:
            self._end()

    def shutdown(self) -> None:
        self._patience = min(self._patience, _LAST_PATIENCE)
        self._look()
        super().shutdown()

    @property
    def expects_more(self) -> bool:
        """Whether more data may arrive before the client closes its side."""
        return self._arrival in _UNFINISHED

    @property
    def _client_must_send(self) -> bool:
        """Whether the connection waits for the client, by the table of `_Arrival`."""
        match self._arrival:
            case _Arrival.NEW:
                return True
            case _Arrival.BODY:
                return not self.flow.read_paused
            case _Arrival.HEAD | _Arrival.REFUSED:
                return not self._unanswered
            case _Arrival.IDLE | _Arrival.ENDED:
                return False

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        while rest and self._arrival not in _OVER:
            rest = self._feed(rest)

    def _feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Parses data; returns what follows the head of a request that offers an upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            return memoryview(data)[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse_invalid()
        return b""

    def _ignore_upgrade(self) -> None:
        """Starts a new parser, which parses the body of the request and what follows it.

        The new parser gets the framing headers, again, and not the offer of an upgrade.
        """
        framing = [name + b": " + value for name, value in self.headers if name in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self._repeats_head = True
        try:
            self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
        except httptools.HttpParserError:
            self._refuse_invalid()
        finally:
            self._repeats_head = False

    def _refuse_invalid(self) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Stops parsing; sends this answer once all earlier ones are sent, then closes."""
        body = http_status.body(message)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n"
        if not self._abandon_arriving():
            self._last_answer = STATUS_LINE[status] + head % len(body) + b"\r\n" + body
        self._arrival = _Arrival.REFUSED
        if not self._unanswered:
            self._end()

    def _abandon_arriving(self) -> bool:
        """Drops a request whose body is incomplete; returns whether its answer has begun."""
        if self._arrival is not _Arrival.BODY:
            return False
        if self.cycle.response_started:
            return True
        if self.pipeline:  # uvicorn adds on the left: this request
            self.pipeline.popleft()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._unanswered -= 1
        return False

    def _end(self) -> None:
        self._lingering.write(self._last_answer)
        self._lingering.close()

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(self._patience / _LOOKS, self._look)

    def _look(self) -> None:
        """Cuts the client off if it stalls, or sends its request too slowly."""
        self._next_look.cancel()
        unread = self.transport.get_write_buffer_size()
        must_send = self._client_must_send
        seen, now = (self._received, unread), self.loop.time()
        if seen != self._seen or not (unread or must_send):
            self._seen, self._since = seen, now
        stalls = now - self._since > self._patience
        allowed = self._patience + self._wanted / _SLOWEST
        if stalls or (must_send and now - self._began > allowed):
            self._cut_off(unread)
        self._look_later()

    def _cut_off(self, unread: int) -> None:
        if unread:
            self.transport.abort()
            return
        due = self._arrival is _Arrival.HEAD or (
            self._arrival is _Arrival.BODY and not self.cycle.response_started
        )
        if due and not self._lingering.wrote_eof:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
        self.transport.close()


class _LingeringTransport:
    """A transport whose `close` waits until the request has arrived completely.

    Data that arrives at a closed socket resets the connection, and the client loses the answer.
    Calls on a closed transport do nothing; uvloop's would raise RuntimeError.
    """

    def __init__(self, transport: asyncio.Transport, connection: _Protocol) -> None:
        self.is_closing = transport.is_closing
        self.wrote_eof = False
        self._transport = transport
        self._connection = connection

    def write(self, data: bytes) -> None:
        if not self.wrote_eof and not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if not self._connection.expects_more:
            self._transport.close()
        elif not self.wrote_eof and not self._transport.is_closing():
            self.wrote_eof = True
            self._transport.write_eof()
