"""Request bodies: read, unzipped, and never larger than allowed, one or all together."""

import zlib
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lambda_serving.errors import Cancelled, PayloadTooLarge, ServingError, Unavailable

__all__ = ["Bounded", "Held", "Room", "abandoned", "read", "unzip"]

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 2**20  # bytes that are unzipped at a time


class Room:
    """The bytes that requests may hold together at any time; `refusal` is raised for more.

    Safe to use from several threads.
    """

    def __init__(self, limit: int, refusal: Callable[[int], ServingError]) -> None:
        self._limit = limit
        self._refusal = refusal
        self._held = 0
        self._lock = Lock()

    def take(self, size: int, own: int = 0) -> None:
        """Raises the refusal where these bytes do not fit beside those of others.

        Who holds `own` bytes already, and nobody else any, is let have more.
        """
        with self._lock:
            if self._held + size > self._limit and self._held > own:
                raise self._refusal(self._limit)
            self._held += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._held -= size


class Held:
    """What one request holds of a room, given back at the end of the block.

    A thread may still read the request then: its time was up, or its client went away.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0
        self._is_over = False
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            self._room.give_back(self._size)

    def add(self, size: int) -> None:
        """Holds so many bytes more; raises the room's refusal, and Cancelled after the block."""
        with self._lock:
            if self._is_over:
                raise Cancelled("The request was answered before it had been read.")
            if size:
                self._room.take(size, self._size)
                self._size += size


class Bounded:
    """An application whose requests have bodies of at most `limit` bytes together at any time.

    A body counts from its first byte until its request is answered, unless it came in one piece:
    those are small. What it is unzipped to, and the objects that it becomes, count besides:
    `scope["hold"]` takes those bytes. What is too much beside others is refused with Unavailable,
    which `receive` and `hold` raise.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self.room = Room(limit, _too_many)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with Held(self.room) as held:
            comes_in_pieces = False

            async def counted() -> Message:
                nonlocal comes_in_pieces
                message = await receive()
                comes_in_pieces = comes_in_pieces or bool(message.get("more_body"))
                if comes_in_pieces:
                    held.add(len(message.get("body", b"")))
                return message

            await self._app({**scope, "hold": held.add}, counted, send)


def _too_many(limit: int) -> Unavailable:
    return Unavailable(
        f"The bodies of all requests at once are over {limit} bytes. Try again later"
    )


async def read(receive: Receive, headers: Iterable[tuple[bytes, bytes]], limit: int) -> bytes:
    """The body as sent, at most `limit` bytes.

    Raises PayloadTooLarge, before reading when the length is declared, and Cancelled when the
    client goes away.
    """
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("The client went away before its request was complete.")
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(chunks)


async def abandoned(receive: Receive) -> None:
    """Returns when the client of a request whose body has been read goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def unzip(body: bytes, limit: int, hold: Callable[[int], None] = lambda _: None) -> bytes:
    """A gzip body's content, at most `limit` bytes; empty when it is not gzip.

    As in TensorFlow Serving (util/net_http/server/internal/evhttp_request.cc) a body that
    cannot be unzipped counts as empty. `hold` is told of the bytes as they come. Raises
    PayloadTooLarge over the limit, and what `hold` raises.
    """
    decompressor = zlib.decompressobj(_GZIP)
    pieces, left = [], limit + 1
    try:
        while left and not decompressor.eof:
            piece = decompressor.decompress(body, min(left, _PIECE))
            if not piece:
                break
            hold(len(piece))
            pieces.append(piece)
            left -= len(piece)
            body = decompressor.unconsumed_tail
    except zlib.error:
        return b""
    if not left:
        raise PayloadTooLarge(
            f"The unzipped request body is over {limit} bytes"
            " (--rest_api_max_unzipped_bytes). Send fewer rows in a request."
        )
    return b"".join(pieces) if decompressor.eof else b""


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request body is over {limit} bytes (--rest_api_max_body_bytes)."
        " Send fewer rows in a request, or raise the limit."
    )
