"""What all AWS calls share: clients, and errors translated into ours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import boto3
from botocore import exceptions as boto_errors
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
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

# A model that is being warmed may use its function's whole timeout.
_CONFIG = Config(
    connect_timeout=3, read_timeout=70, retries={"mode": "standard", "total_max_attempts": 4}
)
_SESSION_SECONDS = 1200  # longer than a build may take
_MAX_SESSION_NAME = 64
_API_GATEWAY = "execute-api"
_REFUSALS: Mapping[str, type[ServingError]] = {
    "403": PermissionDenied,  # the answers to HEAD, which have no body
    "404": NotFound,
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
    "ValidationError": InvalidArgument,
}

_FULL = "maximum number of"
"""In API Gateway's message about a full quota, whose code is that of a conflict."""


class Account:
    """The caller of AWS; by default with the settings of this process."""

    def __init__(self, session: boto3.Session | None = None) -> None:
        with translate_errors("this account"):
            self._session = session or boto3.Session()

    @classmethod
    def of_profile(cls, profile: str | None, region: str | None = None) -> Self:
        """The account of a profile of the user's AWS settings; None for what they choose.

        Raises what `translate_errors` raises, such as for a profile that does not exist.
        """
        with translate_errors("this account"):
            return cls(boto3.Session(profile_name=profile, region_name=region))

    @classmethod
    def of_model(cls, role: str, model: str, sts: Any) -> Self:
        """The role's account, limited to what its policies allow a session with the tag `model`.

        `sts` assumes the role for 20 minutes. Raises what `translate_errors` raises.
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

    @property
    def region(self) -> str | None:
        """The region of the settings, if they name one."""
        return self._session.region_name

    def signed(
        self, url: str, headers: Mapping[str, str], body: bytes, region: str
    ) -> dict[str, str] | None:
        """The headers with which API Gateway in that region takes a POST request, by SigV4.

        botocore encodes the path once more before it signs it, as AWS does: `MLP:predict` is signed
        as `MLP%3Apredict`. Returns None if there are no credentials. Raises what `translate_errors`
        raises, such as for a login that has expired.
        """
        with translate_errors("the credentials of this account"):
            credentials = self._session.get_credentials()
            if credentials is None:
                return None
            request = AWSRequest("POST", url, {**headers}, body)
            frozen = credentials.get_frozen_credentials()
            SigV4Auth(frozen, _API_GATEWAY, region).add_auth(request)
            return dict(request.headers.items())

    def connect(self, *services: Any) -> list[Any]:
        """A client for each service; creating them together takes half the time."""
        with translate_errors("this account"):
            return [self._session.client(service, config=_CONFIG) for service in services]


def connect(*services: Any) -> list[Any]:
    """Clients with the credentials of this process."""
    return Account().connect(*services)


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turns boto3's errors into ours.

    They become Unavailable, PermissionDenied, NotFound, InvalidArgument for what AWS rejects,
    ResourceExhausted for a full quota, and Aborted when somebody else has changed the resource or
    it is still changing: the same request will succeed later.
    """
    try:
        yield
    except boto_errors.ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"]["Message"]
        is_full = _FULL in said.lower()
        kind = ResourceExhausted if is_full else _REFUSALS.get(code, Unavailable)
        raise kind(f"AWS, asked about {what}: {said} ({code})") from error
    except boto_errors.NoCredentialsError as error:
        raise Unavailable(
            f"AWS, asked about {what}: {error}. Name a profile that has some, or set"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except boto_errors.BotoCoreError as error:
        raise Unavailable(f"AWS, asked about {what}: {error}") from error
