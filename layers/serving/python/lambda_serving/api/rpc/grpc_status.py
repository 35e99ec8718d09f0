"""Our errors as gRPC statuses: the only place that knows their numbers.

Source: model_servers/grpc_status_util.cc.
"""

from lambda_serving.errors import ServingError

__all__ = ["INTERNAL", "OK", "UNEXPECTED", "code_of", "message"]

OK = 0
INTERNAL = 13
UNEXPECTED = "The server failed on this request. Its log has the reason."
_LONGEST = 1024


def code_of(error: ServingError) -> int:
    """The gRPC status code of an error."""
    return int(error.code)  # the canonical codes are gRPC's numbers


def message(error: ServingError) -> str:
    """What is said of an error: at most 1024 bytes of UTF-8, and a mark where more is cut off."""
    text = str(error).encode("utf-8", "replace")
    if len(text) <= _LONGEST:
        return text.decode()
    return text[:_LONGEST].decode("utf-8", "ignore") + "...TRUNCATED"
