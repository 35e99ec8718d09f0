"""A connection's transport that closes without losing the last answer."""

import asyncio
from collections.abc import Callable

__all__ = ["LingeringTransport"]


class LingeringTransport:
    """A transport whose `close` waits while `expects_more`: until the request has arrived.

    Data that arrives at a closed socket resets the connection, and the client loses the answer.
    Calls on a closed transport do nothing; uvloop's would raise RuntimeError.
    """

    def __init__(self, transport: asyncio.Transport, expects_more: Callable[[], bool]) -> None:
        self.is_closing = transport.is_closing
        self.wrote_eof = False
        self._transport = transport
        self._expects_more = expects_more

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
        if not self._expects_more():
            self._transport.close()
        elif not self.wrote_eof and not self._transport.is_closing():
            self.wrote_eof = True
            self._transport.write_eof()
