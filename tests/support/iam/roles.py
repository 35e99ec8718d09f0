"""The roles of our templates, with references resolved as CloudFormation does it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Role", "loaded", "roles"]

_INFRA = Path(__file__).parents[3] / "infra"
_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]+)\}")
_ARNS = {
    "AWS::ECS::Cluster": "arn:aws:ecs:{region}:{account}:cluster/{name}",
    "AWS::IAM::Role": "arn:aws:iam::{account}:role/{name}",
    "AWS::Logs::LogGroup": "arn:aws:logs:{region}:{account}:log-group:{name}:*",
    "AWS::SQS::Queue": "arn:aws:sqs:{region}:{account}:{name}",
    "AWS::Serverless::Function": "arn:aws:lambda:{region}:{account}:function:{name}",
}
_NAMES = ("ApplicationName", "FunctionName", "LogGroupName", "QueueName", "RoleName")


@dataclass(frozen=True, slots=True)
class Role:
    """What a role may do by its own policies, and who may take it by its trust policy."""

    arn: str
    statements: list[dict[str, Any]]
    trust: list[dict[str, Any]]


def roles(template: str, values: Mapping[str, str]) -> dict[str, Role]:
    """The roles of `infra/TEMPLATE.yaml` by their logical ids.

    `values` are the stack's parameters that have no default, `AWS::StackName`, `AWS::Region` and
    `AWS::AccountId`, and what else is known of resources: `Changes.Arn`. Raises KeyError for what
    is not known.
    """
    document = loaded(_INFRA / f"{template}.yaml")
    parameters, resources = document["Parameters"], document["Resources"]
    defaults = {name: each["Default"] for name, each in parameters.items() if "Default" in each}
    stack = _Stack(resources, {"AWS::Partition": "aws", **defaults, **values})
    return {
        name: Role(
            stack.arn(name),
            [each for document in stack.policies(name) for each in document["Statement"]],
            stack.resolved(resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]),
        )
        for name, resource in resources.items()
        if resource["Type"] == "AWS::IAM::Role"
    }


def loaded(template: Path) -> Any:
    """A template with the long forms of intrinsic functions."""
    return yaml.load(template.read_text(), _Loader)  # noqa: S506 a SafeLoader


@dataclass(frozen=True, slots=True)
class _Stack:
    resources: Mapping[str, Any]
    values: Mapping[str, str]

    def policies(self, role: str) -> Iterator[Any]:
        """Documents, of the role itself and of policies beside it."""
        for policy in self.resources[role]["Properties"].get("Policies", []):
            yield self.resolved(policy["PolicyDocument"])
        for resource in self.resources.values():
            properties = resource.get("Properties", {})
            beside = resource["Type"] == "AWS::IAM::RolePolicy"
            if beside and properties["RoleName"] == {"Ref": role}:
                yield self.resolved(properties["PolicyDocument"])

    def resolved(self, value: Any) -> Any:
        match value:
            case {"Ref": str(name)}:
                return self._ref(name)
            case {"Fn::GetAtt": str(path)}:
                name, _, attribute = path.partition(".")
                assert attribute == "Arn", path
                return self.arn(name)
            case {"Fn::Sub": str(text)}:
                return _PLACEHOLDER.sub(self._filled, text)
            case dict():
                return {self.resolved(key): self.resolved(each) for key, each in value.items()}
            case list():
                return [self.resolved(each) for each in value]
            case _:
                return value

    def arn(self, name: str) -> str:
        if found := self.values.get(f"{name}.Arn"):
            return found
        return _ARNS[self.resources[name]["Type"]].format(
            name=self._ref(name),
            region=self.values["AWS::Region"],
            account=self.values["AWS::AccountId"],
        )

    def _filled(self, found: re.Match[str]) -> str:
        literal, name = found.groups()
        return f"${{{name}}}" if literal else str(self.resolved(_reference(name)))

    def _ref(self, name: str) -> str:
        """The value of a parameter, or a resource's name: usually the one in its properties."""
        if name in self.values:
            return self.values[name]
        resource = self.resources[name]
        if resource["Type"] == "AWS::Lambda::Alias":
            function = resource["Properties"]["FunctionName"]["Ref"]
            return f"{self.arn(function)}:{resource['Properties']['Name']}"
        for key in _NAMES:
            if key in resource.get("Properties", {}):
                return str(self.resolved(resource["Properties"][key]))
        return f"{self.values['AWS::StackName']}-{name}"


def _reference(name: str) -> dict[str, str]:
    return {"Fn::GetAtt": name} if "." in name else {"Ref": name}


class _Loader(yaml.CSafeLoader):
    """Reads the short forms of intrinsic functions as the long ones."""


def _long(loader: yaml.CSafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _long)
