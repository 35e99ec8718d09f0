"""The function of a model, its published versions and its aliases: the calls of Lambda."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import Aborted, InvalidArgument, NotFound, Unavailable
from lambda_serving.release.aws.clients import translate_errors
from lambda_serving.release.deciding.model_state import (
    Alias,
    FunctionVersion,
    Origin,
    Refusal,
    State,
)

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

__all__ = ["ModelFunction", "Unpublished", "image_of"]

_LATEST = "$LATEST"
_STATES = {
    "Active": State.ACTIVE,
    "Failed": State.FAILED,
    "Inactive": State.INACTIVE,
    "Pending": State.PENDING,
}
# How UpdateFunctionCode rejects an image. Other messages, such as those about the function's role
# or network, do not blame the image.
_IMAGE_REFUSALS = re.compile(
    r"Source image (?P<missing>\S+) does not exist"
    r"|Source image (?P<invalid>\S+) is not valid"
    r"|The image manifest(, config)? or layer media type for the source image (?P<type>\S+) is not"
    r"|(?i:uncompressed container image size exceeds|image size .*exceed|image .*architecture)"
)
_SETTINGS = (  # a published version keeps those that the function had
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
class Unpublished:
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
    """The function `name`. Every method raises what `translate_errors` raises."""

    def __init__(self, name: str, client: "LambdaClient") -> None:
        self._name = name
        self._client = client

    def latest(self) -> Unpublished:
        with self._translate_errors():
            found = self._client.get_function(FunctionName=self._name)
        configuration = found["Configuration"]
        return Unpublished(
            found["Code"]["ResolvedImageUri"].rpartition("@")[2],
            _settings(configuration),
            configuration["LastUpdateStatus"] == "InProgress",
            _refusal(configuration) if configuration["LastUpdateStatus"] == "Failed" else None,
            configuration["LastModified"],
            configuration["RevisionId"],
        )

    def published(self) -> tuple[list[FunctionVersion], set[str]]:
        """The published versions that a release made, and the images of all others.

        Lambda's list has no states, so each version's configuration is requested.
        """
        with self._translate_errors():
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
        """The model versions that get any of an alias's requests."""
        found = self.alias(alias)
        origins = map(self.origin, (found.function_version, *found.shares))
        return {origin.model_version for origin in origins if origin}

    def alias(self, name: str) -> Alias:
        with self._translate_errors():
            return _alias(self._client.get_alias(FunctionName=self._name, Name=name))

    def origin(self, function_version: int) -> Origin | None:
        """What a function version was made from; None if no release made it."""
        configuration = self._configuration(str(function_version or _LATEST))
        return Origin.of(configuration.get("Description", ""))

    def provisioning(self, alias: str) -> bool:
        """Whether Lambda is still allocating provisioned concurrency to the alias's version.

        Until it has, Lambda sets weights of its own on the alias (terraform-provider-aws#48116).
        """
        try:
            with self._translate_errors():
                found = self._client.get_provisioned_concurrency_config(
                    FunctionName=self._name, Qualifier=alias
                )
        except NotFound:
            return False
        return found["Status"] == "IN_PROGRESS"

    def aliases(self) -> dict[str, Alias]:
        with self._translate_errors():
            pages = self._client.get_paginator("list_aliases").paginate(FunctionName=self._name)
            found = [each for page in pages for each in page["Aliases"]]
        return {each["Name"]: _alias(each) for each in found}

    def update(self, image: str) -> str:
        """Gives the function an image, `REPOSITORY@DIGEST`; returns LastModified, as in `latest`.

        Raises InvalidArgument only when Lambda rejects this very image.
        """
        try:
            with self._translate_errors():
                told = self._client.update_function_code(FunctionName=self._name, ImageUri=image)
        except InvalidArgument as error:
            found = _IMAGE_REFUSALS.search(str(error))
            named = [name for name in found.groupdict().values() if name] if found else []
            if found and all(name.rstrip(".,") == image for name in named):
                raise
            raise Unavailable(str(error)) from error
        return told["LastModified"]

    def publish(self, origin: Origin, revision: str) -> None:
        """Publishes the function if it has not changed since that revision."""
        with self._translate_errors():
            self._client.publish_version(
                FunctionName=self._name, RevisionId=revision, Description=str(origin)
            )

    def arn(self) -> str:
        with self._translate_errors():
            return self._client.get_function_configuration(FunctionName=self._name)["FunctionArn"]

    def wake(self, function_version: int) -> None:
        """Invokes an inactive version; Lambda rejects the call but reactivates it."""
        with suppress(Aborted, RuntimeError):
            self.invoke(function_version, {"method": "GET", "path": "/healthz"})

    def invoke(self, qualifier: int | str, event: Any) -> Any:
        """What a function version, or the one behind an alias, returns for an event.

        Raises RuntimeError with Lambda's message when the function fails.
        """
        with self._translate_errors():
            answer = self._client.invoke(
                FunctionName=self._name,
                Qualifier=str(qualifier),
                Payload=json.dumps(event, ensure_ascii=False).encode(),
            )
            returned = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise RuntimeError(returned.get("errorMessage") or "Lambda gave no reason")
        return returned

    def point(self, alias: str, function_version: int, seen: Alias | None) -> None:
        """Sends all traffic of an alias to one version; creates the alias if none was seen."""
        with self._translate_errors():
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
        with self._translate_errors():
            self._client.delete_alias(FunctionName=self._name, Name=alias)

    def drop_version(self, function_version: int) -> None:
        with self._translate_errors():
            self._client.delete_function(FunctionName=self._name, Qualifier=str(function_version))

    def _version(self, number: str, origin: Origin) -> FunctionVersion | None:
        """None when it was deleted meanwhile."""
        try:
            found = self._configuration(number)
        except NotFound:
            return None
        state = _STATES.get(found["State"], State.OTHER)
        refusal = Refusal(
            found.get("StateReasonCode", ""), found.get("StateReason") or found["State"]
        )
        return FunctionVersion(int(number), origin, state, _settings(found), refusal)

    def _configuration(self, qualifier: str) -> "FunctionConfigurationResponseTypeDef":
        with self._translate_errors():
            return self._client.get_function_configuration(
                FunctionName=self._name, Qualifier=qualifier
            )

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_errors(f"function {self._name}")


def image_of(function_name: str, client: "LambdaClient") -> str:
    """The image of a function, `REPOSITORY@DIGEST`; raises what `translate_errors` raises."""
    with translate_errors(f"function {function_name}"):
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
