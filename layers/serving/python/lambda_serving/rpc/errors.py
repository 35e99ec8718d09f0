"""Our errors as gRPC statuses: the only place that knows their numbers.

Source: model_servers/grpc_status_util.cc.
"""

from lambda_serving import errors
from lambda_serving.errors import ServingError

__all__ = ["INTERNAL", "OK", "UNEXPECTED", "code_of", "message"]

OK = 0
INTERNAL = 13
UNEXPECTED = "The server failed on this request. Its log has the reason."
_CODES: dict[type[ServingError], int] = {
    errors.Cancelled: 1,
    errors.Unknown: 2,
    errors.InvalidArgument: 3,
    errors.DeadlineExceeded: 4,
    errors.NotFound: 5,
    errors.AlreadyExists: 6,
    errors.PermissionDenied: 7,
    errors.ResourceExhausted: 8,
    errors.PayloadTooLarge: 8,
    errors.DiskFull: 8,
    errors.FailedPrecondition: 9,
    errors.Aborted: 10,
    errors.OutOfRange: 11,
    errors.Unimplemented: 12,
    errors.Internal: INTERNAL,
    errors.Unavailable: 14,
    errors.DataLoss: 15,
    errors.Unauthenticated: 16,
}
_LONGEST = 1024


def code_of(error: ServingError) -> int:
    """The gRPC status code of an error."""
    return _CODES[type(error)]


def message(error: ServingError) -> str:
    """What is said of an error: at most 1024 bytes of UTF-8, and a mark where more is cut off."""
    text = str(error).encode("utf-8", "replace")
    if len(text) <= _LONGEST:
        return text.decode()
    return text[:_LONGEST].decode("utf-8", "ignore") + "...TRUNCATED"
