"""Our errors as HTTP statuses: the only place that knows the numbers of failures.

Source: model_servers/http_server.cc, `ToHTTPStatusCode`.
"""

import orjson

from lambda_serving.errors import Code, PayloadTooLarge, ServingError

__all__ = ["body", "status_of"]

_STATUSES = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
_TOO_LARGE = 413


def status_of(error: ServingError) -> int:
    """The HTTP status of an error."""
    return _TOO_LARGE if isinstance(error, PayloadTooLarge) else _STATUSES[error.code]


def body(message: str) -> bytes:
    """The body of every failure: `{"error": message}`."""
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})
