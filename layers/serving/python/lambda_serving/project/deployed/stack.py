"""A deployed stack of CloudFormation, with the stacks that are nested in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.release.aws.clients import translate_errors

__all__ = ["API", "BUCKET", "FUNCTION", "LOG_GROUP", "Resource", "Stack", "look", "look_for"]

API = "AWS::ApiGatewayV2::Api"
BUCKET = "AWS::S3::Bucket"
FUNCTION = "AWS::Lambda::Function"
LOG_GROUP = "AWS::Logs::LogGroup"
_STACK = "AWS::CloudFormation::Stack"
_RELEASE = "_release"
"""The end of the release function's name; before it is what all names of the system start with."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource: its type, and its name or ARN."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, its resources and the stacks in it; `id` is its ARN.

    `parent` is the ARN of the stack that it is nested in, empty if it is nested in none.
    """

    id: str
    name: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    resources: Sequence[Resource]
    nested: Sequence["Stack"] = ()
    parent: str = ""

    def walk(self) -> Iterator["Stack"]:
        """This stack, and all that are nested in it."""
        yield self
        for each in self.nested:
            yield from each.walk()

    def all(self, kind: str) -> list[str]:
        """The ids of all resources of a type."""
        return [each.id for stack in self.walk() for each in stack.resources if each.kind == kind]

    @property
    def system(self) -> str:
        """What names of functions start with, which is also the dimension `stack` of metrics.

        Raises InvalidArgument for a stack without a release function.
        """
        for name in self.all(FUNCTION):
            if name.endswith(_RELEASE):
                return name.removesuffix(_RELEASE)
        raise InvalidArgument(
            f"Stack {self.name} has no release function, so it was not made from our templates."
            " Name the stack that you gave to deploy"
        )

    @property
    def models(self) -> dict[str, "Stack"]:
        """The stacks of models, by the names of the models."""
        found = (each for each in self.walk() if "PredictUrl" in each.outputs)
        return {name: stack for stack in found if (name := stack.parameters.get("ModelName"))}

    @property
    def access(self) -> str:
        """Who may call the API: IAM, JWT or OPEN; the template's default if no stack says it."""
        return next(
            (each.parameters["Access"] for each in self.walk() if "Access" in each.parameters),
            "IAM",
        )


def look(name: str, client: Any) -> Stack:
    """The stack of a name or an ARN; a deleted one has an ARN only.

    `client` is CloudFormation's. Raises NotFound if there is none, and what `translate_errors`
    raises.
    """
    try:
        with translate_errors(f"stack {name}"):
            [found] = client.describe_stacks(StackName=name)["Stacks"]
    except InvalidArgument as error:
        if "does not exist" in str(error):
            raise NotFound(
                f"There is no stack {name} in {client.meta.region_name}. Check the name, the region"
                " and the profile, or deploy it"
            ) from error
        raise
    with translate_errors(f"stack {name}"):
        pages = client.get_paginator("list_stack_resources").paginate(StackName=found["StackId"])
        listed = [each for page in pages for each in page["StackResourceSummaries"]]
    resources = [
        Resource(each["ResourceType"], each["PhysicalResourceId"])
        for each in listed
        if each.get("PhysicalResourceId")  # one that was never made has none
    ]
    return Stack(
        found["StackId"],
        found["StackName"],
        found["StackStatus"],
        _pairs(found.get("Parameters", []), "Parameter"),
        _pairs(found.get("Outputs", []), "Output"),
        [each for each in resources if each.kind != _STACK],
        [
            nested
            for each in resources
            if each.kind == _STACK and (nested := look_for(each.id, client))
        ],
        found.get("ParentId", ""),
    )


def look_for(name: str, client: Any) -> Stack | None:
    """As `look`; None if there is none."""
    try:
        return look(name, client)
    except NotFound:
        return None


def _pairs(listed: Sequence[Mapping[str, str]], of: str) -> dict[str, str]:
    """Parameters or outputs by their keys."""
    return {each[f"{of}Key"]: each.get(f"{of}Value", "") for each in listed}
