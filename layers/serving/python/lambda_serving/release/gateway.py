"""A model on AWS: its store and records in S3, its function in Lambda. The release's AWS calls."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import boto3
from botocore import exceptions as boto_errors

from lambda_serving.errors import Aborted, NotFound, PermissionDenied, ServingError, Unavailable
from lambda_serving.model_spec import ServableId
from lambda_serving.release.actions import (
    Action,
    Build,
    Fail,
    Point,
    Publish,
    Retire,
    Update,
    Wait,
    Warm,
)
from lambda_serving.release.deployment import (
    Deployment,
    FunctionVersion,
    Origin,
    Record,
    State,
)

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

__all__ = ["ALIAS", "AwsGateway", "Builder", "Releases", "connect", "registry_passwords"]

ALIAS = "live"
_ECR = re.compile(r"\d{12}\.dkr\.ecr[.-].*")
_STATES = {
    "Active": State.ACTIVE,
    "Inactive": State.ACTIVE,  # asleep after weeks without a request; an invocation wakes it
    "Pending": State.PENDING,
}


class Releases(Protocol):
    """What is complete in the store, and what was recorded of it."""

    def manifests(self) -> Mapping[int, str]:
        """Digests of the manifests of the model's complete versions."""
        ...

    def records(self) -> Mapping[int, Record]:
        """The records of its versions."""
        ...

    def record(self, version: int, record: Record) -> None:
        """Replaces the record of a version."""
        ...


class Builder(Protocol):
    """Makes images of model versions."""

    def base(self) -> str:
        """The digest of the image that models are put on."""
        ...

    def build(self, servable: ServableId) -> str:
        """The digest of the image with that model version; raises what makes it impossible."""
        ...


class AwsGateway:
    """`reconcile.Gateway` of the model `name`, served by the function `function_name`.

    `repository` is the images' in ECR, `HOST/NAME`. Errors of AWS are told as Unavailable,
    PermissionDenied, NotFound for a function or an alias that is not there, Aborted when
    somebody else changed the function meanwhile.
    """

    def __init__(
        self,
        name: str,
        function_name: str,
        repository: str,
        *,
        functions: "LambdaClient",
        releases: Releases,
        builder: Builder,
    ) -> None:
        self._name = name
        self._function_name = function_name
        self._repository = repository
        self._functions = functions
        self._releases = releases
        self._builder = builder

    def observe(self) -> Deployment:
        with self._explained():
            latest = self._functions.get_function(FunctionName=self._function_name)
            published = list(self._published())
            alias = self._functions.get_alias(FunctionName=self._function_name, Name=ALIAS)
        return Deployment(
            base=self._builder.base(),
            manifests=self._releases.manifests(),
            records=self._releases.records(),
            function_versions=published,
            code=latest["Code"]["ResolvedImageUri"].rpartition("@")[2],
            updating=latest["Configuration"]["LastUpdateStatus"] == "InProgress",
            live=int(alias["FunctionVersion"]),
            revision=alias["RevisionId"],
        )

    def apply(self, action: Action, seen: Deployment) -> None:
        match action:
            case Build(version):
                self._build(version, seen)
            case Update(version):
                self._update(seen.records[version])
            case Publish(version):
                self._publish(version, seen.records[version])
            case Warm(version, function_version):
                self._warm(version, function_version, seen.records[version])
            case Fail(version, error):
                self._releases.record(version, replace(seen.records[version], error=error))
            case Point(function_version):
                self._point(function_version, seen.revision)
            case Retire(function_version):
                with self._explained():
                    self._functions.delete_function(
                        FunctionName=self._function_name, Qualifier=str(function_version)
                    )
            case Wait():
                pass

    def _explained(self) -> AbstractContextManager[None]:
        return _explained(f"function {self._function_name}")

    def _published(self) -> Iterator[FunctionVersion]:
        """The published versions that a release made."""
        paginator = self._functions.get_paginator("list_versions_by_function")
        for page in paginator.paginate(FunctionName=self._function_name):
            for found in page["Versions"]:
                if origin := Origin.of(found.get("Description", "")):
                    yield FunctionVersion(
                        int(found["Version"]),
                        origin,
                        _STATES.get(found["State"], State.FAILED),
                        found.get("StateReason", ""),
                    )

    def _build(self, version: int, seen: Deployment) -> None:
        record = Record(seen.manifests[version], seen.base)
        try:
            image = self._builder.build(ServableId(self._name, version))
        except (Unavailable, PermissionDenied):
            raise  # of the way there, not of the model: the next run tries again
        except ServingError as error:
            self._releases.record(version, replace(record, error=str(error)))
        else:
            self._releases.record(version, replace(record, image=image))

    def _update(self, record: Record) -> None:
        with self._explained():
            self._functions.update_function_code(
                FunctionName=self._function_name,
                ImageUri=f"{self._repository}@{record.image}",
            )

    def _publish(self, version: int, record: Record) -> None:
        """Only if the function still has that image: its code's digest is the image's."""
        image = record.image or ""
        with self._explained():
            self._functions.publish_version(
                FunctionName=self._function_name,
                CodeSha256=image.removeprefix("sha256:"),
                Description=str(Origin(version, record.manifest, image)),
            )

    def _warm(self, version: int, function_version: int, record: Record) -> None:
        """Has that very function version load its model and say that it answers."""
        event = {"path": f"/v1/models/{self._name}/versions/{version}", "method": "GET"}
        with self._explained():
            answer = self._functions.invoke(
                FunctionName=self._function_name,
                Qualifier=str(function_version),
                Payload=json.dumps(event).encode(),
            )
            told = json.loads(answer["Payload"].read())
        if "FunctionError" in answer or told.get("statusCode") != 200:
            error = told.get("errorMessage") or told.get("body")
            self._releases.record(version, replace(record, error=f"It does not answer: {error}"))
        else:
            self._releases.record(version, replace(record, warm=function_version))

    def _point(self, function_version: int, revision: str) -> None:
        with self._explained():
            self._functions.update_alias(
                FunctionName=self._function_name,
                Name=ALIAS,
                FunctionVersion=str(function_version),
                RoutingConfig={"AdditionalVersionWeights": {}},
                RevisionId=revision,
            )


def connect() -> "LambdaClient":
    """A client with the settings of AWS that this process was started with."""
    with _explained("this account"):
        return boto3.Session().client("lambda")


def registry_passwords(repository: str) -> dict[str, tuple[str, str]]:
    """User and password for the registry of a repository, if it is ECR; others are anonymous."""
    host = repository.partition("/")[0]
    if not _ECR.fullmatch(host):
        return {}
    with _explained("this account"):
        answer = boto3.Session().client("ecr").get_authorization_token()
    user, _, password = (
        base64.b64decode(answer["authorizationData"][0]["authorizationToken"])
        .decode()
        .partition(":")
    )
    return {host: (user, password)}


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Tells what boto3 raises as our errors."""
    try:
        yield
    except boto_errors.ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"]["Message"]
        kind = _REFUSALS.get(code, Unavailable)
        raise kind(f"AWS, asked about {what}: {said} ({code})") from error
    except boto_errors.BotoCoreError as error:
        raise Unavailable(f"AWS, asked about {what}: {error}") from error


_REFUSALS: Mapping[str, type[ServingError]] = {
    "AccessDeniedException": PermissionDenied,
    "PreconditionFailedException": Aborted,
    "ResourceConflictException": Aborted,
    "ResourceNotFoundException": NotFound,
}
