"""Lambda's events as HTTP requests: what Mangum knows, a direct invoke, and refusals.

Mangum reads the payloads of API Gateway (1.0 and 2.0), function URLs and load balancers. Any other
event is a direct invoke: either a body of predict, `{"instances": [...]}`, answered by the bare
document, or `{"path": "/v1/models/MLP:predict", "body": {...}}` with `method` and `headers` if
need be, answered by `{"statusCode": 200, "headers": {...}, "body": {...}}`.
"""

import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.types import LambdaContext, LambdaHandler, Response, Scope

from lambda_serving.errors import InvalidArgument, PayloadTooLarge
from lambda_serving.model_spec import ServableId

__all__ = ["MAX_ANSWER", "MAX_BYTES", "Adapter", "Event"]

Event = Any
_Answer = Callable[[Response], Any]
MAX_ANSWER = 6 * 2**20
"""What Lambda takes of a function, in bytes of JSON."""
MAX_BYTES = (MAX_ANSWER - 4096) * 3 // 4
"""Of an answer that becomes base64, beside its status and headers."""
_TEXT = [*DEFAULT_TEXT_MIME_TYPES, "application/grpc-web-text"]
_SURELY_FITS = MAX_ANSWER // 6
"""One byte of an answer takes up to six as JSON text."""


@dataclass(frozen=True, slots=True)
class _Request:
    """An event, read: what Mangum asks of a handler."""

    scope: Scope
    body: bytes
    answer: _Answer

    def __call__(self, response: Response) -> Any:
        """What the function returns; raises PayloadTooLarge if Lambda would not take it."""
        answer = self.answer(response)
        if len(response["body"]) > _SURELY_FITS:
            size = len(json.dumps(answer))  # as the runtime writes it
            if size > MAX_ANSWER:
                raise PayloadTooLarge(
                    f"The answer has {size} bytes; a function can return {MAX_ANSWER}. Send fewer"
                    " rows in a request, ask for gzip with Accept-Encoding, or use a server."
                )
        return answer


class Adapter(Mangum):
    """Mangum, with direct invokes of the model served and refusals of broken events.

    An alias `label-L` of the function stands for that label: a release made it point here.
    """

    def __init__(self, app: Any, served: ServableId) -> None:
        # Lambda has no start-up and shut-down to tell of.
        super().__init__(app, lifespan="off", text_mime_types=_TEXT)
        self._served = served

    def infer(self, event: Event, context: LambdaContext) -> LambdaHandler:
        """What is needed of an event; raises InvalidArgument for one that is no request."""
        if not isinstance(event, dict):
            raise InvalidArgument(
                "The event is neither an HTTP request nor a body of predict such as"
                f' {{"instances": [...]}}, but a JSON {type(event).__name__}'
            )
        if "requestContext" not in event:
            return cast("LambdaHandler", _direct(event, self._served.name))
        try:
            handler = super().infer(event, context)
            scope = handler.scope
            scope["raw_path"] = self._at_version(_raw_path(event), context)
            scope["method"] = str.upper(scope["method"])  # raises when it is no text
            return cast("LambdaHandler", _Request(scope, _body(event), handler))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = "" if isinstance(error, RuntimeError) else f" ({error!r})"
            raise InvalidArgument(
                "The event is not an HTTP request of API Gateway, a function URL or a load"
                f" balancer{reason}"
            ) from error

    def _at_version(self, path: bytes, context: LambdaContext) -> bytes:
        """The path with the label, by which the function was called, as the version it is of."""
        called = getattr(context, "invoked_function_arn", "")  # who tries it may give no context
        label = called.rpartition(":label-")[2] if ":label-" in called else ""
        place = f"/labels/{label}".encode()
        before, found, after = path.partition(place)
        if not label or not found or after[:1] not in {b"", b":", b"/"}:
            return path
        return before + f"/versions/{self._served.version}".encode() + after


def _raw_path(event: Event) -> bytes:
    """The path as sent: names in it are percent-decoded after it is matched."""
    path: str = event.get("rawPath") or event["path"]
    stage = event["requestContext"].get("stage", "$default")
    if "rawPath" in event and path.startswith(f"/{stage}/"):
        path = path.removeprefix(f"/{stage}")
    return path.encode()


def _body(event: Event) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return bytes(body, "utf-8", "surrogatepass")
    try:
        return binascii.a2b_base64(body, strict_mode=True)
    except binascii.Error as error:
        raise InvalidArgument(f"The event's body is not base64: {error}") from error


def _direct(event: Event, model_name: str) -> _Request:
    is_request = isinstance(event.get("path"), str)
    path = event["path"] if is_request else f"/v1/models/{quote(model_name, safe='')}:predict"
    body = event.get("body") if is_request else event
    try:
        text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    except RecursionError:
        raise InvalidArgument("The event is nested too deeply") from None
    headers = event.get("headers") if is_request else None
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": str(event.get("method", "GET" if body is None else "POST")),
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": b"",
        "headers": [
            (str(name).lower().encode(errors="replace"), str(value).encode(errors="replace"))
            for name, value in (headers if isinstance(headers, dict) else {}).items()
        ],
        "root_path": "",
        "scheme": "https",
        "server": ("lambda", 443),
        "client": ("lambda", 0),
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "aws.event": event,
    }
    answer = _request_answer if is_request else _document
    return _Request(scope, text.encode("utf-8", "surrogatepass"), answer)


def _document(response: Response) -> Any:
    """A document as strict JSON, which has null for NaN and Infinity; what is no JSON as text."""
    try:
        return json.loads(response["body"], parse_constant=lambda _: None)
    except ValueError:
        return response["body"].decode("utf-8", "replace")


def _request_answer(response: Response) -> dict[str, Any]:
    return {
        "statusCode": response["status"],
        "headers": {name.decode(): value.decode() for name, value in response["headers"]},
        "body": _document(response),
    }
