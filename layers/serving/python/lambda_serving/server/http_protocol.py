"""HTTP/1.1 that no client can tie up by stalling, dripping, not reading or sending without end.

uvicorn sets no such limits. Here, a client is cut off if it stalls for `patience` seconds while the
server waits for it, or sends its request too slowly (`client_progress`); it gets a 408 if its
answer has not begun. A request head over `_LONGEST_HEAD` bytes gets a 431. Data after a refused
request is read and discarded, so that the client sees the answer and not a reset. Apache's
mod_reqtimeout and nginx's lingering_close do the same.

A client that offers another protocol, as Java's offers h2c with each first request, is answered in
HTTP/1.1 (RFC 9110, 7.8). Complete requests are answered in order even if invalid data or the end of
the stream follows; after the end of the stream, for `patience` seconds at most, because a client
that has gone away looks the same.
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
from lambda_serving.server.arrival import OVER, Arrival, client_must_send
from lambda_serving.server.client_progress import Progress
from lambda_serving.server.lingering_transport import LingeringTransport

__all__ = ["protocol"]

_LONGEST_HEAD = 64 * 2**10
_LOOKS = 4  # per patience
_LAST_PATIENCE = 5.0  # seconds, once the server is shutting down
_FRAMING = {b"content-length", b"transfer-encoding"}
_UNFINISHED = {Arrival.HEAD, Arrival.BODY, Arrival.REFUSED}


def protocol(patience: float) -> type[asyncio.Protocol]:
    """The value for uvicorn's `http` setting: a protocol with `patience` in seconds."""
    return cast("type[asyncio.Protocol]", partial(_Protocol, patience))


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
        self._arrival = Arrival.NEW
        self._repeats_head = False
        self._last_answer = b""
        self._unanswered = 0
        self._running: RequestResponseCycle | None = None
        self._progress = Progress(patience, self.loop.time())
        self._head = 0
        self._lingering: LingeringTransport
        self._next_look: asyncio.TimerHandle
        self._last_wait: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self._lingering = LingeringTransport(transport, self._expects_more)
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
        self._progress.received += len(data)
        if self._arrival in OVER:
            return
        if self._arrival is Arrival.HEAD and self._lingering.wrote_eof:
            return
        self._head += len(data)
        self._parse(data)
        if self._head > _LONGEST_HEAD and self._arrival in {Arrival.HEAD, Arrival.BODY}:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(status, f"The URL and the headers are over {_LONGEST_HEAD} bytes.")

    def eof_received(self) -> bool:  # type: ignore[override] # as asyncio has it
        """Whether the connection stays open, to answer requests that have arrived completely."""
        self._abandon_arriving()
        self._arrival = Arrival.ENDED
        if not self._unanswered:
            return False
        # a client that has gone away looks the same
        self._last_wait = self.loop.call_later(self._progress.patience, self.transport.abort)
        return True

    def on_message_begin(self) -> None:
        if self._repeats_head:
            return
        super().on_message_begin()
        self._arrival = Arrival.HEAD
        self._progress.began = self.loop.time()
        self._head = self._progress.body = 0

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
        self._arrival = Arrival.BODY
        self._unanswered += 1
        self.cycle.transport = cast("asyncio.Transport", self._lingering)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._head = 0  # counts bytes outside bodies, trailers included
        if not self.cycle.response_complete:
            self._progress.body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser takes what follows for another protocol
        self._arrival = Arrival.IDLE
        super().on_message_complete()
        if self._lingering.wrote_eof:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        super().on_response_complete()
        if self._arrival in OVER and not self._unanswered:
            self._end()

    def shutdown(self) -> None:
        self._progress.patience = min(self._progress.patience, _LAST_PATIENCE)
        self._look()
        super().shutdown()

    def _expects_more(self) -> bool:
        """Whether more data may arrive before the client closes its side."""
        return self._arrival in _UNFINISHED

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        while rest and self._arrival not in OVER:
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
        self._arrival = Arrival.REFUSED
        if not self._unanswered:
            self._end()

    def _abandon_arriving(self) -> bool:
        """Drops a request whose body is incomplete; returns whether its answer has begun."""
        if self._arrival is not Arrival.BODY:
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
        self._next_look = self.loop.call_later(self._progress.patience / _LOOKS, self._look)

    def _look(self) -> None:
        """Cuts the client off if it stalls or is too slow."""
        self._next_look.cancel()
        unread = self.transport.get_write_buffer_size()
        must_send = client_must_send(
            self._arrival, answers_due=self._unanswered > 0, may_send=not self.flow.read_paused
        )
        if self._progress.fails(self.loop.time(), unread, must_send=must_send):
            self._cut_off(unread)
        self._look_later()

    def _cut_off(self, unread: int) -> None:
        if unread:
            self.transport.abort()
            return
        due = self._arrival is Arrival.HEAD or (
            self._arrival is Arrival.BODY and not self.cycle.response_started
        )
        if due and not self._lingering.wrote_eof:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
        self.transport.close()
