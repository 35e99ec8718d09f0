"""The function of a model, its published versions and its aliases: the calls of Lambda."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import Aborted, InvalidArgument, NotFound, Unavailable
from lambda_serving.release.aws.clients import explained
from lambda_serving.release.deciding.model_state import (
    Alias,
    FunctionVersion,
    Origin,
    Refusal,
    State,
)

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

__all__ = ["Latest", "ModelFunction", "image_of"]

_LATEST = "$LATEST"
_STATES = {
    "Active": State.ACTIVE,
    "Failed": State.FAILED,
    "Inactive": State.INACTIVE,
    "Pending": State.PENDING,
}
# What UpdateFunctionCode says of an image that it will not take. What it says of anything else,
# such as the function's role or its network, is no fault of the image.
_IMAGE_REFUSALS = re.compile(
    r"Source image (?P<missing>\S+) does not exist"
    r"|Source image (?P<invalid>\S+) is not valid"
    r"|The image manifest(, config)? or layer media type for the source image (?P<type>\S+) is not"
    r"|(?i:uncompressed container image size exceeds|image size .*exceed|image .*architecture)"
)
_SETTINGS = (  # of a function, beside its image: what a version keeps from when it was published
    "Architectures",
    "Environment",
    "EphemeralStorage",
    "FileSystemConfigs",
    "ImageConfigResponse",
    "LoggingConfig",
    "MemorySize",
    "Role",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
)


@dataclass(frozen=True, slots=True)
class Latest:
    """The function as it would be published: `image` is a digest.

    `refusal` is why the last update failed, `modified` when it was.
    """

    image: str
    settings: str
    updating: bool
    refusal: Refusal | None
    modified: str
    revision: str


class ModelFunction:
    """The function `name`. Every method raises what `aws.explained` says."""

    def __init__(self, name: str, client: "LambdaClient") -> None:
        self._name = name
        self._client = client

    def latest(self) -> Latest:
        with self._explained():
            found = self._client.get_function(FunctionName=self._name)
        configuration = found["Configuration"]
        return Latest(
            found["Code"]["ResolvedImageUri"].rpartition("@")[2],
            _settings(configuration),
            configuration["LastUpdateStatus"] == "InProgress",
            _refusal(configuration) if configuration["LastUpdateStatus"] == "Failed" else None,
            configuration["LastModified"],
            configuration["RevisionId"],
        )

    def published(self) -> tuple[list[FunctionVersion], set[str]]:
        """The published versions that a release made, and the images of all others.

        Lambda's list tells no states, so each of them is asked for.
        """
        with self._explained():
            pages = self._client.get_paginator("list_versions_by_function").paginate(
                FunctionName=self._name
            )
            found = [each for page in pages for each in page["Versions"]]
        made: list[FunctionVersion] = []
        images: set[str] = set()
        for each in found:
            origin = Origin.of(each.get("Description", ""))
            if origin is None or each["Version"] == _LATEST:
                images.add(f"sha256:{each['CodeSha256']}")
            elif version := self._version(each["Version"], origin):
                made.append(version)
        return made, images

    def serving(self, alias: str) -> set[int]:
        """The model versions that an alias sends requests to, be it a part of them."""
        with self._explained():
            found = _alias(self._client.get_alias(FunctionName=self._name, Name=alias))
        origins: list[Origin | None] = []
        for number in (found.function_version, *found.shares):
            with self._explained():
                configuration = self._client.get_function_configuration(
                    FunctionName=self._name, Qualifier=str(number or _LATEST)
                )
            origins.append(Origin.of(configuration.get("Description", "")))
        return {origin.model_version for origin in origins if origin}

    def provisioning(self, alias: str) -> bool:
        """Whether Lambda is allocating provisioned concurrency to what the alias points to.

        Until that is done, it gives the alias weights of its own, as terraform-provider-aws#48116
        found.
        """
        try:
            with self._explained():
                found = self._client.get_provisioned_concurrency_config(
                    FunctionName=self._name, Qualifier=alias
                )
        except NotFound:
            return False
        return found["Status"] == "IN_PROGRESS"

    def aliases(self) -> dict[str, Alias]:
        with self._explained():
            pages = self._client.get_paginator("list_aliases").paginate(FunctionName=self._name)
            found = [each for page in pages for each in page["Aliases"]]
        return {each["Name"]: _alias(each) for each in found}

    def update(self, image: str) -> str:
        """Gives it the image, `REPOSITORY@DIGEST`; when it was modified, as `latest` has it.

        Raises InvalidArgument only for what Lambda has against this very image.
        """
        try:
            with self._explained():
                told = self._client.update_function_code(FunctionName=self._name, ImageUri=image)
        except InvalidArgument as error:
            found = _IMAGE_REFUSALS.search(str(error))
            named = [name for name in found.groupdict().values() if name] if found else []
            if found and all(name.rstrip(".,") == image for name in named):
                raise
            raise Unavailable(str(error)) from error
        return told["LastModified"]

    def publish(self, origin: Origin, revision: str) -> None:
        """Only if it is still what it was with that revision."""
        with self._explained():
            self._client.publish_version(
                FunctionName=self._name, RevisionId=revision, Description=str(origin)
            )

    def arn(self) -> str:
        with self._explained():
            return self._client.get_function_configuration(FunctionName=self._name)["FunctionArn"]

    def wake(self, function_version: int) -> None:
        """Asks one that is asleep: Lambda refuses, and makes it ready."""
        with suppress(Aborted, RuntimeError):
            self.invoke(function_version, {"method": "GET", "path": "/healthz"})

    def invoke(self, function_version: int, event: Any) -> Any:
        """What it returns for an event.

        Raises RuntimeError, with what Lambda says, when it fails.
        """
        with self._explained():
            answer = self._client.invoke(
                FunctionName=self._name,
                Qualifier=str(function_version),
                Payload=json.dumps(event, ensure_ascii=False).encode(),
            )
            returned = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise RuntimeError(returned.get("errorMessage") or "Lambda ended it without a word")
        return returned

    def point(self, alias: str, function_version: int, seen: Alias | None) -> None:
        """Has an alias point there, alone; makes it if it was not seen."""
        with self._explained():
            if seen is None:
                self._client.create_alias(
                    FunctionName=self._name, Name=alias, FunctionVersion=str(function_version)
                )
            else:
                self._client.update_alias(
                    FunctionName=self._name,
                    Name=alias,
                    FunctionVersion=str(function_version),
                    RoutingConfig={"AdditionalVersionWeights": {}},
                    RevisionId=seen.revision,
                )

    def drop_alias(self, alias: str) -> None:
        with self._explained():
            self._client.delete_alias(FunctionName=self._name, Name=alias)

    def drop_version(self, function_version: int) -> None:
        with self._explained():
            self._client.delete_function(FunctionName=self._name, Qualifier=str(function_version))

    def _version(self, number: str, origin: Origin) -> FunctionVersion | None:
        """None when it was deleted meanwhile."""
        try:
            with self._explained():
                found = self._client.get_function_configuration(
                    FunctionName=self._name, Qualifier=number
                )
        except NotFound:
            return None
        state = _STATES.get(found["State"], State.OTHER)
        refusal = Refusal(
            found.get("StateReasonCode", ""), found.get("StateReason") or found["State"]
        )
        return FunctionVersion(int(number), origin, state, _settings(found), refusal)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(f"function {self._name}")


def image_of(function_name: str, client: "LambdaClient") -> str:
    """The image of a function, `REPOSITORY@DIGEST`; raises what `aws.explained` says."""
    with explained(f"function {function_name}"):
        return client.get_function(FunctionName=function_name)["Code"]["ResolvedImageUri"]


def _settings(configuration: Mapping[str, Any]) -> str:
    """A digest of the settings that a deployment may change."""
    told = {key: configuration.get(key) for key in _SETTINGS}
    told["SnapStart"] = configuration.get("SnapStart", {}).get("ApplyOn")
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _refusal(configuration: Mapping[str, Any]) -> Refusal:
    return Refusal(
        configuration.get("LastUpdateStatusReasonCode", ""),
        configuration.get("LastUpdateStatusReason") or "it gives no reason",
    )


def _alias(found: Mapping[str, Any]) -> Alias:
    weights = found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    number, revision = found["FunctionVersion"], found.get("RevisionId", "")
    return Alias(0 if number == _LATEST else int(number), revision, frozenset(map(int, weights)))
