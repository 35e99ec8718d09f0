"""HTTP over ASGI: headers of requests, bodies of bounded size, and answers.

Starlette has classes for these, but importing them would delay a function's start.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lambda_serving.api.request_memory import Held, Room
from lambda_serving.call_record import request_id
from lambda_serving.errors import Cancelled, PayloadTooLarge, Unavailable

__all__ = [
    "Answer",
    "Bounded",
    "Header",
    "cors",
    "header",
    "id_header",
    "read_body",
    "request_id_of",
    "unzip",
    "wait_for_disconnect",
]

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 2**20  # bytes unzipped at a time
_REQUEST_ID = b"x-request-id"

Header = tuple[bytes, bytes]


class Answer(NamedTuple):
    """A whole answer; `content-length` is added when it is sent."""

    status: int
    body: bytes = b""
    headers: Sequence[Header] = ()

    async def send(self, send: Send) -> None:
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body))]
        status = int(self.status)  # Mangum returns it as it is, and an enum is not JSON
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def header(scope: Scope, name: bytes) -> bytes:
    """The value of a request's header, by its name in lower case; several values with commas.

    Empty if the request does not have the header.
    """
    return b",".join(value for key, value in scope["headers"] if key == name)


def cors(methods: bytes, headers: bytes) -> tuple[Header, ...]:
    """The headers that let pages of any origin call with these methods and headers."""
    return (
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", methods),
        (b"access-control-allow-headers", headers),
    )


def request_id_of(scope: Scope) -> str:
    """The id that the client gave in `x-request-id`; a new one if it gave none that is valid."""
    return request_id(header(scope, _REQUEST_ID).decode("latin-1"))


def id_header(known_as: str) -> Header:
    """The header that tells a client the id of its request."""
    return _REQUEST_ID, known_as.encode()


class Bounded:
    """An application whose requests have bodies of at most `limit` bytes together at any time.

    A body counts from its first byte until its request is answered, unless it came in one piece:
    those are small. Unzipped bytes and the objects read from a body count as well:
    `scope["hold"]` takes them. `receive` and `hold` raise Unavailable if the limit is reached.
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


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body of a request as sent, at most `limit` bytes.

    Raises PayloadTooLarge, before reading if the declared length is too large, and Cancelled when
    the client goes away.
    """
    headers = scope["headers"]
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


async def wait_for_disconnect(receive: Receive) -> None:
    """Returns when the client of a request whose body has been read goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def unzip(body: bytes, limit: int, hold: Callable[[int], None] = lambda _: None) -> bytes:
    """The content of a gzip body, at most `limit` bytes; empty if the body is not gzip.

    TensorFlow Serving, too, takes a body that it cannot unzip for an empty one
    (util/net_http/server/internal/evhttp_request.cc). `hold` is called with the number of bytes
    of each piece. Raises PayloadTooLarge over the limit, and what `hold` raises.
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
