"""What all AWS calls share: clients, and errors translated into ours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

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

__all__ = ["Account", "connect", "translate_errors"]

# A model may take all of its time to answer when it is warmed.
_CONFIG = Config(
    connect_timeout=3, read_timeout=70, retries={"mode": "standard", "total_max_attempts": 4}
)
_SESSION_SECONDS = 1200  # more than a build has
_MAX_SESSION_NAME = 64
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


class Account:
    """Who calls AWS; by default with the settings that this process was started with."""

    def __init__(self, session: boto3.Session | None = None) -> None:
        with translate_errors("this account"):
            self._session = session or boto3.Session()

    @classmethod
    def of_model(cls, role: str, model: str, sts: Any) -> Self:
        """In that role, for what its policies allow where a session has the tag `model`.

        `sts` takes it, for 20 minutes. Raises what `translate_errors` raises.
        """
        with translate_errors(f"role {role}"):
            found = sts.assume_role(
                RoleArn=role,
                RoleSessionName=f"build-{model}"[:_MAX_SESSION_NAME],
                Tags=[{"Key": "model", "Value": model}],
                DurationSeconds=_SESSION_SECONDS,
            )["Credentials"]
        key, token = found["AccessKeyId"], found["SessionToken"]
        return cls(boto3.Session(key, found["SecretAccessKey"], token))

    def connect(self, *services: Any) -> list[Any]:
        """A client for each. Together they are made in half the time."""
        with translate_errors("this account"):
            return [self._session.client(service, config=_CONFIG) for service in services]


def connect(*services: Any) -> list[Any]:
    """Clients with the credentials of this process."""
    return Account().connect(*services)


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
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
