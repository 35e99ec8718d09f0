"""Answers boto3's requests to stand-ins in this process without a socket or a thread.

Other processes reach the same stand-ins over HTTP. A call costs half of what it does that way.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore import handlers
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from moto.core.botocore_stubber import MockRawResponse

__all__ = ["Answer", "Reply", "answering", "of_wsgi"]

Reply = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""
Answer = Callable[[str, str, Mapping[str, str], bytes], Reply]
"""Answers a request: its method, its path with the query, its headers and its body."""
_ANSWERS: dict[str, Answer] = {}


@contextmanager
def answering(endpoint: str, answer: Answer) -> Iterator[None]:
    """During the block, `answer` gets the requests of this process's boto3 clients to `endpoint`.

    Clients must be made within the block.
    """
    if not _ANSWERS:
        handlers.BUILTIN_HANDLERS.append(("before-send", _send))
        boto3.DEFAULT_SESSION = None  # the next client makes one, with the handler
    _ANSWERS[endpoint] = answer
    try:
        yield
    finally:
        del _ANSWERS[endpoint]
        if not _ANSWERS:
            handlers.BUILTIN_HANDLERS.remove(("before-send", _send))
            boto3.DEFAULT_SESSION = None


def _send(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
    """The answer; None for requests that are to be sent."""
    url = urlsplit(request.url)
    if (answer := _ANSWERS.get(f"{url.scheme}://{url.netloc}")) is None:
        return None
    sent = {name: _text(value) for name, value in request.headers.items()}
    headers = {"Host": url.netloc, **sent}
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    status, told, body = answer(request.method, target, headers, _content(request.body))
    raw = MockRawResponse(b"" if request.method == "HEAD" else body)
    return AWSResponse(request.url, status, HeadersDict(told), raw)  # type: ignore[arg-type] # as botocore itself


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _content(body: Any) -> bytes:
    if hasattr(body, "read"):
        body = body.read()
    return body.encode() if isinstance(body, str) else bytes(body or b"")


def of_wsgi(application: Callable[[Any, Any], Iterable[bytes]]) -> Answer:
    """A WSGI application that answers as behind a server."""

    def answer(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        path, _, query = target.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "RAW_URI": target,
            "REQUEST_URI": target,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path).encode().decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ["CONTENT_TYPE" if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        told: list[Any] = []

        def start(*given: Any) -> None:  # the last time counts
            told[:] = given[:2]

        content = b"".join(application(environ, start))
        status, answer_headers = told
        return int(status.split()[0]), dict(answer_headers), content

    return answer
