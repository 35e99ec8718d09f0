"""An event as an HTTP call: its request as an ASGI scope, and an answer that fits its way back."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import unquote

from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers.utils import handle_base64_response_body
from mangum.types import LambdaConfig, LambdaContext, Response, Scope

from lambda_serving.errors import PayloadTooLarge
from lambda_serving.function.event_request import Request, read
from lambda_serving.function.time_budget import run_ms

__all__ = ["MAX_ANSWER", "MAX_BYTES", "TEXT", "Event", "EventCall", "members", "parts"]

Event = Any
MAX_ANSWER = 6 * 2**20
"""The most that Lambda takes from a function, in bytes of JSON."""
MAX_BYTES = (MAX_ANSWER - 4096) * 3 // 4
"""The most bytes of an answer that becomes base64, beside its status and headers."""
TEXT = [*DEFAULT_TEXT_MIME_TYPES, "application/grpc-web-text"]
"""Content types of answers that are sent as text."""


class EventCall:
    """What Mangum calls a handler; the kinds of events differ in what they override."""

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


def members(event: Event) -> Mapping[str, Any]:
    """The members of a JSON object; none for another event."""
    return event if isinstance(event, dict) else {}


def parts(response: Response) -> dict[str, Any]:
    """An answer in the form that most senders read."""
    headers = {name.decode().lower(): value.decode() for name, value in response["headers"]}
    body, is_base64 = handle_base64_response_body(response["body"], headers, TEXT)
    return {
        "statusCode": response["status"],
        "headers": headers,
        "body": body,
        "isBase64Encoded": is_base64,
    }
