"""Errors that AWS answers with."""

__all__ = ["BUSY", "Refused", "conflict", "invalid", "not_found", "outdated"]

_NOT_NOW = "The operation cannot be performed at this time."
BUSY = (
    f"{_NOT_NOW} An update is in progress for resource: {{}}",
    f"{_NOT_NOW} The function is currently in the following state: Pending",
    "The resource already exists, or another operation is in progress.",
)
"""The message of ResourceConflictException while Lambda is updating the resource."""


class Refused(Exception):
    """An error of AWS: its HTTP status, its code, its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def not_found(message: str) -> Refused:
    return Refused(404, "ResourceNotFoundException", message)


def conflict(message: str) -> Refused:
    return Refused(409, "ResourceConflictException", message)


def invalid(message: str) -> Refused:
    return Refused(400, "InvalidParameterValueException", message)


def outdated() -> Refused:
    return Refused(
        412,
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the"
        " GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
