"""Request bodies: read, unzipped, and never larger than allowed."""

import zlib
from collections.abc import Iterable

from starlette.types import Receive

from lambda_serving.errors import Cancelled, PayloadTooLarge

__all__ = ["read", "unzip"]

_GZIP = 16 + zlib.MAX_WBITS


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
