"""Our errors as HTTP: the only place that knows status numbers of failures.

Source: model_servers/http_server.cc, `ToHTTPStatusCode`.
"""

import orjson

from lambda_serving import errors
from lambda_serving.errors import ServingError

__all__ = ["UNEXPECTED", "body", "status_of"]

_STATUSES: dict[type[ServingError], int] = {
    errors.Cancelled: 499,
    errors.Unknown: 500,
    errors.InvalidArgument: 400,
    errors.DeadlineExceeded: 504,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.PermissionDenied: 403,
    errors.ResourceExhausted: 429,
    errors.PayloadTooLarge: 413,
    errors.FailedPrecondition: 400,
    errors.Aborted: 409,
    errors.OutOfRange: 400,
    errors.Unimplemented: 501,
    errors.Internal: 500,
    errors.Unavailable: 503,
    errors.DataLoss: 500,
    errors.Unauthenticated: 401,
}
UNEXPECTED = "The server failed on this request. Its log has the reason."


def status_of(error: ServingError) -> int:
    """The HTTP status of an error."""
    return _STATUSES[type(error)]


def body(message: str) -> bytes:
    """The body of every failure: `{"error": message}`."""
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})
