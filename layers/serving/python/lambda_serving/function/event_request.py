"""Reads the HTTP request in an event of any sender.

It is tolerant on purpose: proxies send odd headers, and senders leave out different things. It
reads only what matters to the answer, not host, port and scheme.

Sources: API Gateway developer guide, Lambda proxy integrations of REST APIs and of HTTP APIs;
Lambda developer guide, function URLs; Elastic Load Balancing and VPC Lattice user guides, Lambda
functions as targets.
"""

import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from lambda_serving.errors import InvalidArgument

__all__ = ["Request", "read"]

_Event = Mapping[str, Any]
_AS_SENT = "".join(map(chr, range(0x21, 0x7F))).replace("?", "").replace("#", "")
"""Characters that stay as they are in a path; one that its sender decoded may have others."""
_NOTHING: _Event = {}


class Request(NamedTuple):
    """A request; path and query are percent-encoded, header names are in lower case."""

    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


def read(event: _Event, *, query_in_path: bool = False, encoded: bool = False) -> Request:
    """The request in an event.

    `query_in_path` means that the path includes the query, `encoded` that parameters are still
    percent-encoded. Raises InvalidArgument for an event without a method or a path, and for a body
    that is neither text nor base64.
    """
    path, query = _path(event), None
    if query_in_path:
        path, _, query = path.partition("?")
    if query is None:
        query = _query(event, encoded=encoded)
    return Request(
        _method(event),
        _quoted(path, _AS_SENT),
        _quoted(query, _AS_SENT + "?"),
        list(_headers(event)),
        _body(event),
    )


def _method(event: _Event) -> str:
    context = _part(event, "requestContext")
    http = _part(context, "http")
    for method in (http.get("method"), event.get("httpMethod"), event.get("method")):
        if isinstance(method, str) and method:
            return method.upper()
    raise InvalidArgument("The event is not an HTTP request: it has no method")


def _path(event: _Event) -> str:
    http = _part(_part(event, "requestContext"), "http")
    paths = event.get("rawPath"), http.get("path"), event.get("path"), event.get("raw_path")
    texts = [path for path in paths if isinstance(path, str)]
    if not texts:
        raise InvalidArgument("The event is not an HTTP request: it has no path")
    return next(filter(None, texts), "/")


def _query(event: _Event, *, encoded: bool) -> str:
    raw = event.get("rawQueryString")
    if isinstance(raw, str):
        return raw
    for name in ("multiValueQueryStringParameters", "queryStringParameters"):
        if parameters := _part(event, name):
            safe = _AS_SENT if encoded else ""
            return "&".join(
                f"{_quoted(key, safe)}={_quoted(value, safe)}"
                for key, values in parameters.items()
                for value in _texts(values)
            )
    return ""


def _headers(event: _Event) -> Iterator[tuple[bytes, bytes]]:
    """Each value of each header; only `multiValueHeaders` has all values of a header."""
    headers: dict[str, Any] = {}
    for name in ("headers", "multiValueHeaders"):
        headers |= {key.lower(): value for key, value in _part(event, name).items()}
    for key, values in headers.items():
        for value in _texts(values):
            yield key.encode("utf-8", "replace"), value.encode("utf-8", "replace")


def _texts(values: Any) -> Iterable[str]:
    """One value, or a list of values, as text without nulls."""
    for value in values if isinstance(values, list) else [values]:
        if value is not None:
            yield value if isinstance(value, str) else json.dumps(value)


def _body(event: _Event) -> bytes:
    body = event.get("body") or ""
    if not isinstance(body, str):
        raise InvalidArgument(
            f"The event's body is neither text nor base64 but a JSON {type(body).__name__}"
        )
    if not any(event.get(name) is True for name in ("isBase64Encoded", "is_base64_encoded")):
        return body.encode("utf-8", "surrogatepass")
    one_line = body.replace("\r", "").replace("\n", "")  # the command `base64` wraps lines
    try:
        return binascii.a2b_base64(one_line, strict_mode=True)
    except ValueError as error:
        raise InvalidArgument(f"The event's body is not base64: {error}") from error


def _quoted(text: str, safe: str) -> str:
    return quote(text, safe, errors="replace")


def _part(event: _Event, name: str) -> _Event:
    """A member that is an object; empty if it is null or missing."""
    part = event.get(name)
    if part is None:
        return _NOTHING
    if not isinstance(part, dict):
        raise InvalidArgument(f"The event's {name} is not an object but {type(part).__name__}")
    return part
