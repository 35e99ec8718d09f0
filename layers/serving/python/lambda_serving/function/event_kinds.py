"""The kinds of events that a function gets, and the answer that the sender of each can read.

Each is what Mangum calls a handler. Mangum's own handlers write the answers to API Gateway,
function URLs and load balancers. They do not read the requests: they fail on headers that are odd
but real, such as a port that is no number, a host with two colons, or no headers at all.

Any event that is no HTTP request is a direct invoke: a step function's, a script's. It is either a
body of predict, answered by the bare document,

    {"instances": [...]}

or a request, with `method`, `headers` and `isBase64Encoded` if need be, and its answer:

    {"path": "/v1/models/MLP:predict", "body": {...}}
    {"statusCode": 200, "headers": {...}, "body": {...}, "isBase64Encoded": false}

The body of such an answer is a document, or base64 if it is compressed or not text.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import unquote

from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers import ALB, APIGateway, HTTPGateway
from mangum.handlers.utils import handle_base64_response_body
from mangum.types import LambdaConfig, LambdaContext, LambdaHandler, Response, Scope

from lambda_serving.errors import InvalidArgument, PayloadTooLarge
from lambda_serving.function.event_request import Request, read
from lambda_serving.function.time_budget import run_ms

__all__ = ["KINDS", "MAX_ANSWER", "MAX_BYTES", "TEXT", "Event"]

Event = Any
MAX_ANSWER = 6 * 2**20
"""The most that Lambda takes from a function, in bytes of JSON."""
MAX_BYTES = (MAX_ANSWER - 4096) * 3 // 4
"""The most bytes of an answer that becomes base64, beside its status and headers."""
TEXT = [*DEFAULT_TEXT_MIME_TYPES, "application/grpc-web-text"]
"""Content types of answers that are sent as text."""


class Kind:
    """What all kinds share: the request as an ASGI scope, and an answer that fits."""

    most: ClassVar[int] = MAX_ANSWER
    query_in_path: ClassVar[bool] = False
    encoded_query: ClassVar[bool] = False

    def __init__(self, event: Event, context: LambdaContext, config: LambdaConfig) -> None:
        self.event = event
        self.context = context
        self.config = config

    def __call__(self, response: Response) -> dict[str, Any]:
        """The `status` of a response, and the `answer` that the function returns for it.

        Raises PayloadTooLarge if the answer is too large for its way back.
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
        return {"status": response["status"], "answer": answer}

    def answer(self, response: Response) -> Any:
        raise NotImplementedError

    def read(self) -> Request:
        return read(self.event, query_in_path=self.query_in_path, encoded=self.encoded_query)

    @cached_property
    def request(self) -> Request:
        """The request in the event. Raises InvalidArgument if the event holds none."""
        return self.read()

    @property
    def body(self) -> bytes:
        return self.request.body

    @cached_property
    def scope(self) -> Scope:
        request = self.request
        return {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": unquote(request.path),
            "raw_path": request.path.encode(),
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


class _LoadBalancer(Kind):
    """Application load balancers, which take 1 MB (Elastic Load Balancing user guide)."""

    most = 2**20
    encoded_query = True

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        return "elb" in _request_context(event)

    def answer(self, response: Response) -> Any:
        return _Alb(self.event, self.context, self.config)(response)


class _Alb(ALB):
    @property
    def scope(self) -> Scope:
        """What writing an answer reads of the request."""
        return {"aws.event": self.event}


class _Lattice(Kind):
    """VPC Lattice, both versions of its events."""

    query_in_path = True

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        context = _request_context(event)
        return "raw_path" in _members(event) or bool(
            {"serviceArn", "serviceNetworkArn"} & context.keys()
        )

    def answer(self, response: Response) -> Any:
        status = response["status"]
        return {"statusDescription": f"{status} {HTTPStatus(status).phrase}", **_parts(response)}


class _Payload2(Kind):
    """HTTP APIs and function URLs."""

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        return "rawPath" in _members(event) or "http" in _request_context(event)

    def answer(self, response: Response) -> Any:
        return _HttpGateway(self.event, self.context, self.config)(response)


class _HttpGateway(HTTPGateway):
    @property
    def scope(self) -> Scope:
        """What writing an answer reads of the request."""
        return {"aws.event": {"version": "2.0"}}


class _Payload1(Kind):
    """REST APIs, and HTTP APIs that are told to send payload 1.0."""

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        return "requestContext" in _members(event)

    def answer(self, response: Response) -> Any:
        return APIGateway(self.event, self.context, self.config)(response)


class _Direct(Kind):
    """A direct invoke: a request with a `path`, or a bare body of predict, whose path is empty."""

    query_in_path = True

    @classmethod
    def infer(cls, _event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        return True

    def read(self) -> Request:
        if self._is_bare():
            return Request("POST", "", "", [], self._bare_body())
        event, body = self.event, self.event.get("body")
        if not any(isinstance(event.get(name), str) for name in ("method", "httpMethod")):
            event = event | {"method": "GET" if body is None else "POST"}
        if body is not None and not isinstance(body, str):
            event = event | {"body": _text(body)}
        return read(event, query_in_path=True)

    def answer(self, response: Response) -> Any:
        """The whole answer, or the bare document; bytes that are not text need the whole answer."""
        parts = _parts(response)
        is_text = not parts["isBase64Encoded"]
        document = _document(parts["body"]) if is_text else parts["body"]
        return document if is_text and self._is_bare() else parts | {"body": document}

    def _is_bare(self) -> bool:
        return not isinstance(_members(self.event).get("path"), str)

    def _bare_body(self) -> bytes:
        if isinstance(self.event, dict):
            return _text(self.event).encode("utf-8", "surrogatepass")
        raise InvalidArgument(
            "The event is neither an HTTP request nor a body of predict such as"
            f' {{"instances": [...]}}, but a JSON {type(self.event).__name__}'
        )


KINDS: list[type[LambdaHandler]] = [_LoadBalancer, _Lattice, _Payload2, _Payload1, _Direct]
"""Every kind; the first one whose `infer` says so is that of an event."""


def _members(event: Event) -> Mapping[str, Any]:
    return event if isinstance(event, dict) else {}


def _request_context(event: Event) -> Mapping[str, Any]:
    return _members(_members(event).get("requestContext"))


def _parts(response: Response) -> dict[str, Any]:
    """The parts of an answer that is written as most senders read it."""
    headers = {name.decode().lower(): value.decode() for name, value in response["headers"]}
    body, is_base64 = handle_base64_response_body(response["body"], headers, TEXT)
    return {
        "statusCode": response["status"],
        "headers": headers,
        "body": body,
        "isBase64Encoded": is_base64,
    }


def _document(text: str) -> Any:
    """The document as strict JSON, with null for NaN and Infinity; other text as it is."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except ValueError:
        return text


def _text(document: Any) -> str:
    try:
        return json.dumps(document)
    except RecursionError:
        raise InvalidArgument("The event is nested too deeply") from None
