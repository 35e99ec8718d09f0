"""What all calls of AWS have in common: a client, and errors told as ours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore import exceptions as boto_errors
from botocore.config import Config

from lambda_serving.errors import (
    Aborted,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServingError,
    Unavailable,
)

__all__ = ["connect", "explained"]

# A model may take all of its time to answer when it is warmed.
_CONFIG = Config(
    connect_timeout=3, read_timeout=70, retries={"mode": "standard", "total_max_attempts": 4}
)
_REFUSALS: Mapping[str, type[ServingError]] = {
    "AccessDenied": PermissionDenied,
    "AccessDeniedException": PermissionDenied,
    "AliasLimitExceededException": ResourceExhausted,
    "ApplicationDoesNotExistException": NotFound,
    "BadRequestException": InvalidArgument,
    "CodeArtifactUserPendingException": Aborted,
    "ConflictException": Aborted,
    "DeploymentAlreadyCompletedException": Aborted,
    "DeploymentGroupDoesNotExistException": NotFound,
    "InvalidParameterValueException": InvalidArgument,
    "NotFoundException": NotFound,
    "PreconditionFailedException": Aborted,
    "ProvisionedConcurrencyConfigNotFoundException": NotFound,
    "ResourceConflictException": Aborted,
    "ResourceNotFoundException": NotFound,
    "ResourceNotReadyException": Aborted,
    "SnapStartNotReadyException": Aborted,
}

_FULL = "maximum number of"
"""What API Gateway says of a quota that is full, whose code is one of a conflict."""


def connect(*services: Any) -> list[Any]:
    """A client for each, with the settings of AWS that this process was started with.

    Together they are made in half the time.
    """
    with explained("this account"):
        session = boto3.Session()
        return [session.client(service, config=_CONFIG) for service in services]


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Tells what boto3 raises as our errors.

    Unavailable, PermissionDenied, NotFound for what is not there, InvalidArgument for what AWS
    will not take, ResourceExhausted when there is no room for more. Aborted when somebody else
    changed it meanwhile, or when it is about to change: asked again later, AWS does it.
    """
    try:
        yield
    except boto_errors.ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"]["Message"]
        is_full = _FULL in said.lower()
        kind = ResourceExhausted if is_full else _REFUSALS.get(code, Unavailable)
        raise kind(f"AWS, asked about {what}: {said} ({code})") from error
    except boto_errors.BotoCoreError as error:
        raise Unavailable(f"AWS, asked about {what}: {error}") from error
