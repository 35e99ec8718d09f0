"""CloudFormation, as far as stacks are looked at and deleted, without templates.

Answers are checked against botocore's model and come in small pages. A deletion takes some looks,
keeps what is retained, and fails for what is stuck.
Source: CloudFormation's API reference; its user guide, "DeletionPolicy attribute".
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from support.cloud import ACCOUNT, REGION
from support.without_sockets import Reply, answering

__all__ = ["CloudFormation", "Resource", "Stack", "running"]

_ENDPOINT = "http://cloudformation.invalid"
_STACK = "AWS::CloudFormation::Stack"
_PAGE = 2
_STARTED = datetime(2026, 11, 1, tzinfo=UTC)
Authorize = Callable[[str, str, str], str | None]
"""From a request's header `Authorization`, action and ARN to AWS's refusal, if it is refused."""


@dataclass(slots=True)
class Resource:
    """A resource: a `retained` one outlives its stack, a `stuck` one makes the deletion fail."""

    kind: str
    id: str
    retained: bool = False
    stuck: str = ""
    status: str = "CREATE_COMPLETE"


@dataclass(slots=True)
class Stack:
    """A stack; `parent` is the ARN of the one that it is nested in, `looks` a deletion's length."""

    name: str
    resources: dict[str, Resource]
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    status: str = "UPDATE_COMPLETE"
    parent: str = ""
    looks: int = 1
    deleted: datetime | None = None
    id: str = ""

    def __post_init__(self) -> None:
        place = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}"
        self.id = self.id or f"{place}:stack/{self.name}/{uuid4()}"


class CloudFormation:
    """All stacks; `gone` is called with each resource that a deletion removes."""

    def __init__(self, gone: Callable[[Resource], object] = lambda _: None) -> None:
        self.stacks: list[Stack] = []
        self.authorize: Authorize = lambda *_: None
        self._gone = gone

    def add(self, stack: Stack, **nested: Stack) -> Stack:
        """Deploys a stack with stacks in it, by their logical ids."""
        for name, each in nested.items():
            each.parent = stack.id
            stack.resources[name] = Resource(_STACK, each.id)
            if each not in self.stacks:  # it may hold stacks itself
                self.stacks.append(each)
        self.stacks.append(stack)
        return stack

    def answer(self, _: str, __: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer to a request of boto3."""
        given = {key: value for key, [value, *_] in parse_qs(body.decode()).items()}
        action, name = given["Action"], given.get("StackName", "")
        refusal = self.authorize(headers.get("Authorization", ""), action, self._arn(name))
        if refusal:
            return _refused(403, "AccessDenied", refusal)
        found = self._find(name) if name else None
        if name and found is None and action != "DeleteStack":
            said = f"Stack with id {name} does not exist"
            return _refused(400, "ValidationError", said)
        return _answered(action, self._done(action, found, given))

    def _done(self, action: str, stack: Stack | None, given: Mapping[str, str]) -> dict[str, Any]:
        match action, stack:
            case "DescribeStacks", Stack():
                self._look(stack)
                return {"Stacks": [_described(stack)]}
            case "ListStackResources", Stack():
                listed = [_listed(name, each) for name, each in stack.resources.items()]
                return _page("StackResourceSummaries", listed, given)
            case "ListStacks", None:
                wanted = given["StackStatusFilter.member.1"]
                found = [_summary(each) for each in self.stacks if each.status == wanted]
                return _page("StackSummaries", found, given)
            case "DeleteStack", Stack() if stack.status != "DELETE_COMPLETE":
                stack.status = "DELETE_IN_PROGRESS"
            case "DeleteStack", _:
                pass  # a stack that is gone is deleted as well
            case _:
                raise AssertionError(f"nobody knows what {action} does")
        return {}

    def _find(self, name: str) -> Stack | None:
        """By ARN, or by the name of one that is not deleted."""
        known = (each for each in reversed(self.stacks))
        return next(
            (
                each
                for each in known
                if name == each.id or (name == each.name and each.status != "DELETE_COMPLETE")
            ),
            None,
        )

    def _arn(self, name: str) -> str:
        if not name:
            return "*"
        found = self._find(name)
        place = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}"
        return found.id if found else f"{place}:stack/{name}/*"

    def _look(self, stack: Stack) -> None:
        """Brings a deletion nearer to its end."""
        if stack.status != "DELETE_IN_PROGRESS":
            return
        stack.looks -= 1
        if stack.looks <= 0:
            self._delete(stack)

    def _delete(self, stack: Stack) -> None:
        stack.status, stack.deleted = "DELETE_COMPLETE", datetime.now(UTC)
        for each in stack.resources.values():
            nested = self._find(each.id) if each.kind == _STACK else None
            if nested and nested.status != "DELETE_COMPLETE":
                self._delete(nested)
            if each.stuck or (nested and nested.status == "DELETE_FAILED"):
                stack.status, each.status = "DELETE_FAILED", "DELETE_FAILED"
            elif each.status != "DELETE_COMPLETE":
                each.status = "DELETE_SKIPPED" if each.retained else "DELETE_COMPLETE"
                if not each.retained:
                    self._gone(each)


@contextmanager
def running(stacks: CloudFormation, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """During the block, boto3 finds these stacks."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", _ENDPOINT)
    with answering(_ENDPOINT, stacks.answer):
        yield


def _described(stack: Stack) -> dict[str, Any]:
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "StackStatus": stack.status,
        "CreationTime": _STARTED,
        "Parameters": _pairs("Parameter", stack.parameters),
        "Outputs": _pairs("Output", stack.outputs),
        **({"ParentId": stack.parent} if stack.parent else {}),
    }


def _pairs(of: str, values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{f"{of}Key": key, f"{of}Value": value} for key, value in values.items()]


def _listed(name: str, resource: Resource) -> dict[str, Any]:
    return {
        "LogicalResourceId": name,
        "PhysicalResourceId": resource.id,
        "ResourceType": resource.kind,
        "ResourceStatus": resource.status,
        "LastUpdatedTimestamp": _STARTED,
        **({"ResourceStatusReason": resource.stuck} if resource.stuck else {}),
    }


def _summary(stack: Stack) -> dict[str, Any]:
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "StackStatus": stack.status,
        "CreationTime": _STARTED,
        **({"DeletionTime": stack.deleted} if stack.deleted else {}),
        **({"ParentId": stack.parent, "RootId": stack.parent} if stack.parent else {}),
    }


def _page(name: str, found: list[dict[str, Any]], given: Mapping[str, str]) -> dict[str, Any]:
    start = int(given.get("NextToken", 0))
    end = start + _PAGE
    more = {"NextToken": str(end)} if end < len(found) else {}
    return {name: found[start:end], **more}


def _answered(action: str, answer: Mapping[str, Any]) -> Reply:
    """As XML; fails for an answer that is not AWS's."""
    shape = _model().operation_model(action).output_shape
    if shape is None:
        assert not answer, answer
    else:
        report = ParamValidator().validate(answer, shape)
        assert not report.has_errors(), report.generate_report()
    result = f"<{action}Result>{_xml(answer)}</{action}Result>"
    return 200, {"Content-Type": "text/xml"}, f"<Response>{result}</Response>".encode()


def _refused(status: int, code: str, message: str) -> Reply:
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return status, {"Content-Type": "text/xml"}, f"<ErrorResponse>{error}</ErrorResponse>".encode()


def _xml(value: Any) -> str:
    match value:
        case Mapping():
            return "".join(f"<{key}>{_xml(each)}</{key}>" for key, each in value.items())
        case list():
            return "".join(f"<member>{_xml(each)}</member>" for each in value)
        case datetime():
            return value.isoformat()
    return escape(str(value))


@cache
def _model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("cloudformation")
