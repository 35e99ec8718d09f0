"""Request bodies: read, unzipped, and never larger than allowed, one or all together."""

import zlib
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lambda_serving.errors import Cancelled, PayloadTooLarge, Unavailable

__all__ = ["Bounded", "read", "unzip"]

_GZIP = 16 + zlib.MAX_WBITS


class Bounded:
    """An application whose requests have bodies of at most `limit` bytes together at any time.

    A body counts from its first byte until its request is answered, unless it came in one piece:
    those are small. One too many is refused with Unavailable, which `receive` raises.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            if held or message.get("more_body"):
                size = len(message.get("body", b""))
                held += size
                self._held += size
                if self._held > self._limit:
                    raise Unavailable(
                        f"The bodies of all requests at once are over {self._limit} bytes."
                        " Try again later"
                    )
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= held


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


def unzip(body: bytes, limit: int) -> bytes:
    """A gzip body's content, at most `limit` bytes; empty when it is not gzip.

    As in TensorFlow Serving (util/net_http/server/internal/evhttp_request.cc) a body that
    cannot be unzipped counts as empty. Raises PayloadTooLarge over the limit.
    """
    decompressor = zlib.decompressobj(_GZIP)
    try:
        content = decompressor.decompress(body, limit + 1)
    except zlib.error:
        return b""
    if len(content) > limit:
        raise PayloadTooLarge(
            f"The unzipped request body is over {limit} bytes"
            " (--rest_api_max_unzipped_bytes). Send fewer rows in a request."
        )
    return content if decompressor.eof else b""


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request body is over {limit} bytes (--rest_api_max_body_bytes)."
        " Send fewer rows in a request, or raise the limit."
    )
