"""Our errors as gRPC statuses. The canonical codes of `errors.Code` are gRPC's numbers.

Source: model_servers/grpc_status_util.cc.
"""

from dataclasses import dataclass

from lambda_serving.errors import ServingError

__all__ = ["OK", "Reply", "message", "refusal"]

OK = 0
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A serialized answer, or a status that is not OK and its message."""

    body: bytes = b""
    code: int = OK
    message: str = ""


def refusal(error: ServingError) -> Reply:
    """The reply that tells a client of an error."""
    return Reply(code=error.code, message=message(error))


def message(error: ServingError) -> str:
    """The text of an error, cut off with a mark after 1024 bytes of UTF-8."""
    text = str(error).encode("utf-8", "replace")
    if len(text) <= _LONGEST:
        return text.decode()
    return text[:_LONGEST].decode("utf-8", "ignore") + "...TRUNCATED"
