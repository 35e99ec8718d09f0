r"""gRPC-Web: the unary methods over HTTP/1.1, for browsers, functions and clients without HTTP/2.

A body is made of frames: a byte of flags (128: trailers, 1: compressed), the length in four bytes,
big-endian, and the content. A request is one frame, the message. An answer is a frame with the
message, which a failure does not have, and a frame with trailers: `grpc-status:0\r\n` and, for a
failure, `grpc-message:...\r\n`. With `application/grpc-web-text` both are in base64.
Source: grpc/grpc, doc/PROTOCOL-WEB.md.
"""

import binascii
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from lambda_serving.api import http
from lambda_serving.api.http import Answer, Header
from lambda_serving.api.inline_or_thread import convert
from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rpc import grpc_status
from lambda_serving.api.rpc.grpc_status import Reply, refusal
from lambda_serving.api.rpc.grpc_web_addresses import Address
from lambda_serving.api.rpc.services import Circumstances, Services, timeout_ms
from lambda_serving.call_record import Observers
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import InvalidArgument, PayloadTooLarge, ServingError, Unimplemented

__all__ = ["Web"]

_BINARY, _TEXT = b"application/grpc-web", b"application/grpc-web-text"
_TYPES = {form + suffix for form in (_BINARY, _TEXT) for suffix in (b"", b"+proto")}
_HEAD = struct.Struct(">BI")
_COMPRESSED, _TRAILERS = 1, 128
_TEXT_PIECE, _BINARY_PIECE = 4 * 2**16, 3 * 2**16
_QUANTUM = re.compile(rb"[^=]*=*")  # base64 may have padding wherever its writer stopped
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CORS = http.cors(b"POST", b"content-type, grpc-timeout, x-grpc-web, x-user-agent")


class Web:
    """Answers the methods as an ASGI application that also takes the method's address.

    Request bodies have the limits of the REST API. `max_answer` is the most bytes in the frames of
    an answer. `timeout_ms` replaces `grpc_timeout_in_ms`; 0 is no limit. Models cannot be replaced
    this way, because a page in a browser may be able to call it.
    """

    def __init__(
        self,
        manager: Manager,
        settings: Settings,
        threads: Threads | None,
        observers: Observers | None = None,
        *,
        max_answer: int | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        if timeout_ms is not None:
            settings = replace(settings, grpc_timeout_in_ms=timeout_ms)
        self._services = Services(manager, settings, threads, observers=observers)
        self._threads = threads
        self._max_body = settings.rest_api_max_body_bytes
        self._headers: Sequence[Header] = _CORS if settings.rest_api_enable_cors_support else ()
        self._max_answer = max_answer

    async def __call__(self, address: Address, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = http.header(scope, b"content-type").lower()
        status, body, headers = HTTPStatus.OK, b"", [*self._headers]
        if scope["method"] == "OPTIONS":
            pass
        elif scope["method"] != "POST":
            status = HTTPStatus.METHOD_NOT_ALLOWED
        elif content_type not in _TYPES:
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        else:
            text = content_type.startswith(_TEXT)
            known_as = self._identify(address, scope)
            reply = await self._answer(address, scope, receive, known_as, text=text)
            writing = partial(self._body, reply, text=text)
            body = await convert(self._threads, writing, len(reply.body))
            headers.append((b"content-type", content_type))
            if known_as:
                headers.append(http.id_header(known_as))
        await Answer(status, body, headers).send(send)

    def _identify(self, address: Address, scope: Scope) -> str:
        """The id of a call, empty if its answers carry none."""
        method = address.method
        if method not in self._services.methods or not self._services.wants_id(method):
            return ""
        return http.request_id_of(scope)

    async def _answer(
        self, address: Address, scope: Scope, receive: Receive, known_as: str, *, text: bool
    ) -> Reply:
        try:
            body = await http.read_body(scope, receive, self._max_body)
            read = partial(_read, body, text=text)
            message = await convert(self._threads, read, len(body))
            if address.method not in self._services.methods:
                raise Unimplemented(f"Unknown method {address.method}")
            asked_ms = timeout_ms(_seconds(http.header(scope, b"grpc-timeout")))
        except ServingError as error:
            return refusal(error)
        how = Circumstances(
            timeouts_ms=[asked_ms, scope.get("timeout_ms", 0)],
            model=address.model,
            entrypoint="GRPC-WEB",
            request_id=known_as,
            gone=partial(http.wait_for_disconnect, receive),
        )
        return await self._services.answer(address.method, message, how)

    def _body(self, reply: Reply, *, text: bool) -> bytes:
        answer = self._fitting(_framed(reply))
        return _encoded(answer) if text else answer

    def _fitting(self, frames: bytes) -> bytes:
        if self._max_answer is None or len(frames) <= self._max_answer:
            return frames
        error = PayloadTooLarge(
            f"The answer has {len(frames)} bytes; a function can return {self._max_answer}."
            " Send fewer rows in a request, or use a server."
        )
        return _framed(refusal(error))


def _message(body: bytes) -> bytes:
    """The message in the only frame of a request. Raises InvalidArgument for any other body."""
    if len(body) < _HEAD.size:
        raise InvalidArgument("The body is not a gRPC-Web frame")
    flags, length = _HEAD.unpack_from(body)
    if flags & _COMPRESSED:
        raise Unimplemented("Compressed gRPC-Web frames are not supported")
    if flags or len(body) != _HEAD.size + length:
        raise InvalidArgument(
            f"The body is not one gRPC-Web frame: {len(body) - _HEAD.size} bytes follow its head,"
            f" which says {length}"
        )
    return body[_HEAD.size :]


def _read(body: bytes, *, text: bool) -> bytes:
    return _message(_decoded(body) if text else body)


def _decoded(body: bytes) -> bytes:
    """The bytes in base64, decoded in pieces: no other thread runs during one call of C."""
    try:
        return b"".join(
            binascii.a2b_base64(piece, strict_mode=True)
            for part in _QUANTUM.finditer(body)
            for piece in _pieces(part[0], _TEXT_PIECE)
        )
    except binascii.Error as error:
        raise InvalidArgument(f"The body is not base64: {error}") from error


def _encoded(answer: bytes) -> bytes:
    return b"".join(
        binascii.b2a_base64(piece, newline=False) for piece in _pieces(answer, _BINARY_PIECE)
    )


def _pieces(body: bytes, size: int) -> Iterator[bytes]:
    """All of the body; the last piece is the largest, so base64's padding is never by itself."""
    start = 0
    while len(body) - start > 2 * size:
        yield body[start : start + size]
        start += size
    if body:
        yield body[start:]


def _framed(reply: Reply) -> bytes:
    trailers = f"grpc-status:{reply.code}\r\n"
    if reply.code == grpc_status.OK:
        head, last = _HEAD.pack(0, len(reply.body)), _HEAD.pack(_TRAILERS, len(trailers))
        return b"".join([head, reply.body, last, trailers.encode()])
    trailers += f"grpc-message:{quote(reply.message, safe=_UNQUOTED)}\r\n"
    return _HEAD.pack(_TRAILERS, len(trailers)) + trailers.encode()


_UNQUOTED = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""Characters that are not escaped in `grpc-message` (grpc/grpc, doc/PROTOCOL-HTTP2.md)."""


def _seconds(header: bytes) -> float | None:
    """The seconds of a `grpc-timeout`, such as `100m`; None for an empty one."""
    if not header:
        return None
    if (match := _TIMEOUT.fullmatch(header)) is None:
        raise InvalidArgument(
            f"grpc-timeout is {header.decode('latin-1')!r}; it must be a number and a unit, as 100m"
        )
    return int(match[1]) * _SECONDS[match[2]]
