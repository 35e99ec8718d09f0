"""Direct invokes, by step functions and scripts: any event that is not an HTTP request.

It is either a body of predict, answered by the bare document,

    {"instances": [...]}

or a request, with `method`, `headers` and `isBase64Encoded` if needed, and its answer:

    {"path": "/v1/models/MLP:predict", "body": {...}}
    {"statusCode": 200, "headers": {...}, "body": {...}, "isBase64Encoded": false}

The body of such an answer is a document, or base64 if it is compressed or not text.
"""

import json
from typing import Any

from mangum.types import LambdaConfig, LambdaContext, Response

from lambda_serving.errors import InvalidArgument
from lambda_serving.function.event_call import Event, EventCall, members, parts
from lambda_serving.function.event_request import Request, read

__all__ = ["DirectInvoke"]


class DirectInvoke(EventCall):
    """A request with a `path`, or a bare body of predict, whose path is empty."""

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
        """The bare document for a bare body; otherwise, and for bytes, the whole answer."""
        whole = parts(response)
        is_text = not whole["isBase64Encoded"]
        document = _document(whole["body"]) if is_text else whole["body"]
        return document if is_text and self._is_bare() else whole | {"body": document}

    def _is_bare(self) -> bool:
        return not isinstance(members(self.event).get("path"), str)

    def _bare_body(self) -> bytes:
        if isinstance(self.event, dict):
            return _text(self.event).encode("utf-8", "surrogatepass")
        raise InvalidArgument(
            "The event is neither an HTTP request nor a body of predict such as"
            f' {{"instances": [...]}}, but a JSON {type(self.event).__name__}'
        )


def _document(text: str) -> Any:
    """The text parsed as JSON, with null for NaN and Infinity; other text as it is."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except ValueError:
        return text


def _text(document: Any) -> str:
    try:
        return json.dumps(document)
    except RecursionError:
        raise InvalidArgument("The event is nested too deeply") from None
