"""The kinds of events that a function gets, and the answer that the sender of each can read.

Mangum calls what is here a handler. Its own write the answers to API Gateway, function URLs and
load balancers. They do not read the requests: they fail on headers that are odd but real, a port
that is no number, a host with two colons, no headers at all.

An event that is no HTTP request is a direct invoke: either a body of predict,
`{"instances": [...]}`, answered by the bare document, or
`{"path": "/v1/models/MLP:predict", "body": {...}}` with `method`, `headers` and `isBase64Encoded`
if need be, answered by
`{"statusCode": 200, "headers": {...}, "body": {...}, "isBase64Encoded": false}`. The body of such
an answer is a document, or base64 where it is compressed or no text.
"""

import json
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote

from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers import ALB, APIGateway, HTTPGateway
from mangum.handlers.utils import handle_base64_response_body
from mangum.types import LambdaConfig, LambdaContext, Response, Scope

from lambda_serving.errors import InvalidArgument, PayloadTooLarge
from lambda_serving.function.event_request import Request, read
from lambda_serving.function.time_budget import run_ms

__all__ = ["MAX_ANSWER", "MAX_BYTES", "TEXT", "Event", "Place", "kind_of"]

Event = Any
Place = Callable[[str, Event, LambdaContext], str]
"""Where in the application a path leads, with the event and the context that it came with."""
MAX_ANSWER = 6 * 2**20
"""What Lambda takes of a function, in bytes of JSON."""
MAX_BYTES = (MAX_ANSWER - 4096) * 3 // 4
"""Of an answer that becomes base64, beside its status and headers."""
TEXT = [*DEFAULT_TEXT_MIME_TYPES, "application/grpc-web-text"]
"""Content types of answers that are sent as text."""


class Kind:
    """What all kinds share: the request as ASGI has it, and an answer that fits."""

    most: ClassVar[int] = MAX_ANSWER
    query_in_path: ClassVar[bool] = False
    encoded_query: ClassVar[bool] = False

    def __init__(
        self, event: Event, context: LambdaContext, config: LambdaConfig, place: Place
    ) -> None:
        self.event = event
        self.context = context
        self.config = config
        self.place = place

    def __call__(self, response: Response) -> tuple[int, Any]:
        """The status, and what the function returns.

        Raises PayloadTooLarge if nobody would take it.
        """
        answer = self.answer(response)
        if len(response["body"]) > self.most // 6:  # a byte takes up to six as JSON text
            size = len(json.dumps(answer))  # as the runtime writes it
            if size > self.most:
                raise PayloadTooLarge(
                    f"The answer has {size} bytes; a function can return {self.most}"
                    f"{'' if self.most == MAX_ANSWER else ' to a load balancer'}. Send fewer rows"
                    " in a request, ask for gzip with Accept-Encoding, or use a server."
                )
        return response["status"], answer

    def answer(self, response: Response) -> Any:
        raise NotImplementedError

    def read(self) -> Request:
        return read(self.event, query_in_path=self.query_in_path, encoded=self.encoded_query)

    @cached_property
    def request(self) -> Request:
        """Raises InvalidArgument if the event is none."""
        return self.read()

    @property
    def body(self) -> bytes:
        return self.request.body

    @cached_property
    def scope(self) -> Scope:
        request = self.request
        path = self.place(request.path, self.event, self.context)
        return {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": request.query.encode(),
            "headers": request.headers,
            "root_path": "",
            "scheme": "https",
            "server": ("lambda", 443),
            "client": ("lambda", 0),
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "aws.event": self.event,
            "aws.context": self.context,
            "timeout_ms": run_ms(self.context),
        }


class _Payload1(Kind):
    """REST APIs, and HTTP APIs that are told to send payload 1.0."""

    def answer(self, response: Response) -> Any:
        return APIGateway(self.event, self.context, self.config)(response)


class _Payload2(Kind):
    """HTTP APIs and function URLs."""

    def answer(self, response: Response) -> Any:
        return _HttpGateway(self.event, self.context, self.config)(response)


class _HttpGateway(HTTPGateway):
    @property
    def scope(self) -> Scope:
        """All that it asks, to answer."""
        return {"aws.event": {"version": "2.0"}}


class _LoadBalancer(Kind):
    """Application load balancers, which take 1 MB (Elastic Load Balancing user guide)."""

    most = 2**20
    encoded_query = True

    def answer(self, response: Response) -> Any:
        return _Alb(self.event, self.context, self.config)(response)


class _Alb(ALB):
    @property
    def scope(self) -> Scope:
        """All that it asks, to answer."""
        return {"aws.event": self.event}


class _Lattice(Kind):
    """VPC Lattice, by either version of its events."""

    query_in_path = True

    def answer(self, response: Response) -> Any:
        headers = _headers(response)
        body, is_base64 = handle_base64_response_body(response["body"], headers, TEXT)
        status = response["status"]
        return {
            "statusCode": status,
            "statusDescription": f"{status} {HTTPStatus(status).phrase}",
            "headers": headers,
            "body": body,
            "isBase64Encoded": is_base64,
        }


class _Direct(Kind):
    """A request that somebody wrote: a step function, a script."""

    query_in_path = True

    def read(self) -> Request:
        event, body = self.event, self.event.get("body")
        if not any(isinstance(event.get(name), str) for name in ("method", "httpMethod")):
            event = event | {"method": "GET" if body is None else "POST"}
        if body is not None and not isinstance(body, str):
            event = event | {"body": _text(body)}
        return read(event, query_in_path=True)

    def answer(self, response: Response) -> Any:
        headers = _headers(response)
        body, is_base64 = handle_base64_response_body(response["body"], headers, TEXT)
        return {
            "statusCode": response["status"],
            "headers": headers,
            "body": body if is_base64 else _document(body),
            "isBase64Encoded": is_base64,
        }


class _Body(Kind):
    """A body of predict and nothing else; its path is empty."""

    def read(self) -> Request:
        if not isinstance(self.event, dict):
            raise InvalidArgument(
                "The event is neither an HTTP request nor a body of predict such as"
                f' {{"instances": [...]}}, but a JSON {type(self.event).__name__}'
            )
        body = _text(self.event).encode("utf-8", "surrogatepass")
        return Request("POST", "", "", [], body)

    def answer(self, response: Response) -> Any:
        """The document; strings that are no text leave only base64, and a place that says so."""
        try:
            return _document(response["body"].decode())
        except UnicodeDecodeError:
            return _Direct(self.event, self.context, self.config, self.place).answer(response)


def kind_of(event: Event) -> type[Kind]:
    """The kind of an event, told by its shape."""
    if not isinstance(event, dict):
        return _Body
    context = event.get("requestContext")
    context = context if isinstance(context, dict) else {}
    if "elb" in context:
        return _LoadBalancer
    if "raw_path" in event or {"serviceArn", "serviceNetworkArn"} & context.keys():
        return _Lattice
    if "rawPath" in event or "http" in context:
        return _Payload2
    if "requestContext" in event:
        return _Payload1
    return _Direct if isinstance(event.get("path"), str) else _Body


def _headers(response: Response) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in response["headers"]}


def _document(text: str) -> Any:
    """A document as strict JSON, which has null for NaN and Infinity; what is no JSON as text."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except ValueError:
        return text


def _text(document: Any) -> str:
    try:
        return json.dumps(document)
    except RecursionError:
        raise InvalidArgument("The event is nested too deeply") from None
