"""HTTP/1.1 with clients that stall, drip, never read or send without end: none holds a place.

What uvicorn leaves unbounded is bounded here. A client that the server waits for is cut off after
`patience` seconds without a byte, or when its request arrives more slowly than `_SLOWEST`: with 408
where an answer is still due. A request's head is at most `_LONGEST_HEAD` bytes, else 431. What
follows a refused request is read and dropped, so that its client finds the answer, not a reset.
Rules of that kind: Apache's mod_reqtimeout, nginx's lingering_close. Who offers another protocol,
as Java's client offers h2c with each first request, is answered in this one (RFC 9110, 7.8).
Requests that have come whole are answered, in turn, whatever follows them: rubbish, or the end of
what the client sends; within `patience` seconds then, as this is also how a client goes away.
"""

import asyncio
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
        self._is_over = False
        self._last_answer = b""
        self._unanswered = 0
        self._running: RequestResponseCycle | None = None
        self._began = 0.0
        self._head = self._wanted = self._received = 0
        self._seen, self._since = (0, 0), self.loop.time()
        self._ending: _EndingTransport
        self._next_look: asyncio.TimerHandle
        self._last_wait: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self._ending = _EndingTransport(transport, self)
        self.flow = FlowControl(cast("asyncio.Transport", self._ending))
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        if self._last_wait:
            self._last_wait.cancel()
        super().connection_lost(exc)
        if self._running and not self._running.response_complete:  # others may wait behind it
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._is_over or (self._in_head and self._ending.ended):
            return
        self._head += len(data)
        self._parse(data)
        if self._in_message and self._head > _LONGEST_HEAD and not self._is_over:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(status, f"The URL and the headers are over {_LONGEST_HEAD} bytes.")

    def eof_received(self) -> bool:  # type: ignore[override] # as asyncio has it
        """Whether the connection stays open, for answers to requests that have come whole."""
        if not self._is_over:
            self._is_over = True
            self._give_up_arriving()
        self._in_message = False
        if not self._unanswered:
            return False
        # a client that is gone for good looks the same
        self._last_wait = self.loop.call_later(self._patience, self.transport.abort)
        return True

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
        super().on_headers_complete()
        self._in_head = False
        self._unanswered += 1
        self.cycle.transport = cast("asyncio.Transport", self._ending)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._head = 0  # bytes that are of no body, trailers too
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

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        super().on_response_complete()
        if self._is_over and not self._unanswered:
            self._end()

    def shutdown(self) -> None:
        self._patience = min(self._patience, _LAST_PATIENCE)
        self._look()
        super().shutdown()

    @property
    def expects_more(self) -> bool:
        """Whether the client has not sent all of its request."""
        return self._in_message

    @property
    def _in_body(self) -> bool:
        return self._in_message and not self._in_head

    @property
    def _next_waits(self) -> bool:
        """Whether what arrives follows a request that is not answered yet."""
        return (self._in_head or self._is_over) and self._unanswered > 0

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        while rest and not self._is_over:
            rest = self._fed(rest)

    def _fed(self, data: bytes | memoryview) -> bytes | memoryview:
        """What is left to be parsed, behind a request that offers another protocol."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on()
            return memoryview(data)[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse_rubbish()
        return b""

    def _go_on(self) -> None:
        """Expects the body of a request that offers another protocol, and what follows it."""
        framing = [name + b": " + value for name, value in self.headers if name in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self._goes_on = True
        try:
            self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
        except httptools.HttpParserError:
            self._refuse_rubbish()
        finally:
            self._goes_on = False

    def _refuse_rubbish(self) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Parses no more; behind the answers that are due comes the last of the connection."""
        body = http_status.body(message)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n"
        if not self._give_up_arriving():
            self._last_answer = STATUS_LINE[status] + head % len(body) + b"\r\n" + body
        self._is_over = self._in_message = True
        if not self._unanswered:
            self._end()

    def _give_up_arriving(self) -> bool:
        """Forgets the request that has not come whole; whether its answer has begun."""
        if not self._in_body:
            return False
        if self.cycle.response_started:
            return True
        if self.pipeline:  # it is the last there
            self.pipeline.popleft()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._unanswered -= 1
        return False

    def _end(self) -> None:
        self._ending.write(self._last_answer)
        self._ending.close()

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
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
        self.transport.close()


class _EndingTransport:
    """A connection's transport, which is closed only when all of the request has come.

    Data that comes to a closed socket resets it, and takes the answer away from the client. What
    is still done to a transport that is closed has no effect: uvloop raises RuntimeError there.
    """

    def __init__(self, transport: asyncio.Transport, connection: _Protocol) -> None:
        self.is_closing = transport.is_closing
        self.ended = False
        self._transport = transport
        self._connection = connection

    def write(self, data: bytes) -> None:
        if not self.ended and not self._transport.is_closing():
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
        elif not self.ended and not self._transport.is_closing():
            self.ended = True
            self._transport.write_eof()
