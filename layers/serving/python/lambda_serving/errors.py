"""All errors: one class for each canonical code of TensorFlow and gRPC.

    ServingError
        Cancelled  Unknown  InvalidArgument  DeadlineExceeded  NotFound  AlreadyExists
        PermissionDenied  ResourceExhausted (PayloadTooLarge, DiskFull)  FailedPrecondition
        Aborted  OutOfRange  Unimplemented  Internal  Unavailable  DataLoss  Unauthenticated

A message names the values concerned and is safe to show to a client. The HTTP and gRPC statuses of
a code are in `api.rest.http_status` and `api.rpc.grpc_status`.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ClassVar

__all__ = [
    "NO_MEMORY",
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "Code",
    "DataLoss",
    "DeadlineExceeded",
    "DiskFull",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PayloadTooLarge",
    "PermissionDenied",
    "ResourceExhausted",
    "ServingError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "of_code",
    "translate_os_errors",
]


NO_MEMORY = "There is no memory for this request. Send less in a request, or try again later"


class Code(IntEnum):
    """Canonical codes; the numbers are those of `TF_Code` and of gRPC."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """A failure that a caller can cause or act on; `str(error)` is a sentence for the caller."""

    code: ClassVar[Code]


class Cancelled(ServingError):
    code = Code.CANCELLED


class Unknown(ServingError):
    code = Code.UNKNOWN


class InvalidArgument(ServingError):
    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(ServingError):
    code = Code.DEADLINE_EXCEEDED


class NotFound(ServingError):
    code = Code.NOT_FOUND


class AlreadyExists(ServingError):
    code = Code.ALREADY_EXISTS


class PermissionDenied(ServingError):
    code = Code.PERMISSION_DENIED


class ResourceExhausted(ServingError):
    code = Code.RESOURCE_EXHAUSTED


class PayloadTooLarge(ResourceExhausted):
    """A request exceeds a size limit; the message names the limit and the flag."""


class DiskFull(ResourceExhausted):
    """A disk is full; the message says what could not be written, and where."""


class FailedPrecondition(ServingError):
    code = Code.FAILED_PRECONDITION


class Aborted(ServingError):
    code = Code.ABORTED


class OutOfRange(ServingError):
    code = Code.OUT_OF_RANGE


class Unimplemented(ServingError):
    code = Code.UNIMPLEMENTED


class Internal(ServingError):
    code = Code.INTERNAL


class Unavailable(ServingError):
    code = Code.UNAVAILABLE


class DataLoss(ServingError):
    code = Code.DATA_LOSS


class Unauthenticated(ServingError):
    code = Code.UNAUTHENTICATED


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))

_CLASSES: dict[int, type[ServingError]] = {
    error.code: error for error in ServingError.__subclasses__()
}


def of_code(code: int, message: str) -> ServingError:
    """The error for a canonical code; `Unknown` for any other number."""
    return _CLASSES.get(code, Unknown)(message)


@contextmanager
def translate_os_errors(attempt: str) -> Iterator[None]:
    """Turns an OSError into PermissionDenied, DiskFull or Unavailable.

    Its message says "Could not `attempt`", for example "read /models/m", and why.
    """
    try:
        yield
    except OSError as error:
        raise _of_disk(error, attempt) from error


def _of_disk(error: OSError, attempt: str) -> ServingError:
    reason = error.strerror or str(error)
    told = f"Could not {attempt}: {reason}" + (f" ({error.filename})" if error.filename else "")
    if isinstance(error, PermissionError):
        return PermissionDenied(f"{told}. Allow it to this user")
    if error.errno in _FULL:
        return DiskFull(f"Could not {attempt}: {reason}. Free some space and try again")
    return Unavailable(told)
