"""Removes a deployed stack, and what deleting it leaves over.

CloudFormation keeps the bucket of models. SAM's companion stack holds the repositories of images,
which it cannot delete while there are images in them. A log group may be made anew by a function
that logs while it is deleted. Every step may be repeated: what is gone is skipped.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lambda_serving.errors import FailedPrecondition, InvalidArgument, NotFound
from lambda_serving.project.deployed.stack import BUCKET, FUNCTION, LOG_GROUP, Stack, look, look_for
from lambda_serving.release.aws.clients import translate_errors

__all__ = ["Clients", "Plan", "Removal", "companion_name", "plan"]

_REPOSITORY = "AWS::ECR::Repository"
_DELETED = "DELETE_COMPLETE"
_FAILED = "DELETE_FAILED"
_WHOLE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
_LOOK_SECONDS = 5.0
_MOST_OF_NAME = 104


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of AWS that a removal needs."""

    cloudformation: Any
    ecr: Any
    logs: Any
    s3: Any

    @classmethod
    def connect(cls, connect: Callable[..., Sequence[Any]]) -> Self:
        return cls(*connect("cloudformation", "ecr", "logs", "s3"))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there to remove; `stack` is None if it was deleted before."""

    name: str
    stack: Stack | None
    companion: Stack | None
    buckets: Sequence[str]
    log_groups: Sequence[str]

    @property
    def repositories(self) -> list[str]:
        return self.companion.all(_REPOSITORY) if self.companion else []

    @property
    def kinds(self) -> dict[str, int]:
        """How many resources of each type the stack has."""
        counts: dict[str, int] = {}
        for stack in self.stack.walk() if self.stack else ():
            for each in stack.resources:
                counts[each.kind] = counts.get(each.kind, 0) + 1
        return counts


def companion_name(stack: str) -> str:
    """The name that SAM gives to the stack of a stack's image repositories.

    Source: AWS SAM CLI, lib/bootstrap/companion_stack/data_types.py.
    """
    digest = hashlib.md5(stack.encode(), usedforsecurity=False).hexdigest()
    return f"{stack[:_MOST_OF_NAME]}-{digest[:8]}-CompanionStack"


def plan(name: str, clients: Clients) -> Plan:
    """What there is of a stack of that name, also if the stack itself was deleted lately.

    Raises NotFound if there is nothing, InvalidArgument for a stack that is nested in another or is
    not ours, and what `translate_errors` raises.
    """
    stack, companion = (
        look_for(each, clients.cloudformation) for each in (name, companion_name(name))
    )
    known = stack or _deleted(name, clients)
    if known is None and companion is None:
        look(name, clients.cloudformation)  # raises
    if known:
        _check(known)
    buckets = known.all(BUCKET) if known else []
    groups = known.all(LOG_GROUP) if known else []
    own = [f"/aws/lambda/{each}" for each in known.all(FUNCTION)] if known else []
    return Plan(
        name,
        stack,
        companion,
        [each for each in buckets if _has_bucket(each, clients.s3)],
        sorted({*groups, *own}),
    )


def _check(stack: Stack) -> None:
    """A stack whose first deployment failed may lack what tells that it is ours."""
    if stack.parent:
        raise InvalidArgument(
            f"Stack {stack.name} is a part of {stack.parent}. Name that one, whose name is between"
            " the slashes"
        )
    if stack.status in _WHOLE:
        _ = stack.system


def _deleted(name: str, clients: Clients) -> Stack | None:
    """The stack of that name that was deleted last; CloudFormation remembers it for 90 days."""
    with translate_errors("deleted stacks"):
        pages = clients.cloudformation.get_paginator("list_stacks").paginate(
            StackStatusFilter=[_DELETED]
        )
        found = [
            each
            for page in pages
            for each in page["StackSummaries"]
            if each["StackName"] == name and not each.get("ParentId")
        ]
    if not found:
        return None
    last = max(found, key=lambda each: each.get("DeletionTime") or each["CreationTime"])
    return look(last["StackId"], clients.cloudformation)


def _has_bucket(bucket: str, s3: Any) -> bool:
    try:
        with translate_errors(f"bucket {bucket}"):
            s3.head_bucket(Bucket=bucket)
    except NotFound:
        return False
    return True


class Removal:
    """Carries out a plan, step by step; methods raise what `translate_errors` raises.

    `wait` pauses for some seconds.
    """

    def __init__(
        self,
        plan: Plan,
        clients: Clients,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._plan = plan
        self._clients = clients
        self._wait = wait

    def stack(self, tell: Callable[[str], None]) -> None:
        """Deletes the stack, and waits until it is gone.

        `tell` gets how far it is. Raises FailedPrecondition, with CloudFormation's reasons, if
        something cannot be deleted.
        """
        if self._plan.stack:
            self._delete(self._plan.stack, tell)

    def images(self, tell: Callable[[str], None]) -> None:
        """Deletes the repositories with all their images, and SAM's stack of them."""
        for name in self._plan.repositories:
            with translate_errors(f"repository {name}"):
                try:
                    self._clients.ecr.delete_repository(repositoryName=name, force=True)
                except self._clients.ecr.exceptions.RepositoryNotFoundException:
                    continue
            tell(f"repository {name}")
        if self._plan.companion:
            self._delete(self._plan.companion, tell)

    def log_groups(self) -> list[str]:
        """Deletes the log groups that are left, and returns their names."""
        left = []
        for name in self._plan.log_groups:
            with translate_errors(f"log group {name}"):
                try:
                    self._clients.logs.delete_log_group(logGroupName=name)
                except self._clients.logs.exceptions.ResourceNotFoundException:
                    continue
            left.append(name)
        return left

    def models(self, tell: Callable[[str], None]) -> list[str]:
        """Deletes the buckets with all versions of all objects, and returns their names."""
        gone = [each for each in self._plan.buckets if _has_bucket(each, self._clients.s3)]
        for bucket in gone:
            count = 0
            for batch in self._versions(bucket):
                self._delete_objects(bucket, batch)
                count += len(batch)
                tell(f"{count} objects of {bucket}")
            with translate_errors(f"bucket {bucket}"):
                self._clients.s3.delete_bucket(Bucket=bucket)
        return gone

    def _delete(self, stack: Stack, tell: Callable[[str], None]) -> None:
        cloudformation = self._clients.cloudformation
        with translate_errors(f"stack {stack.name}"):
            cloudformation.delete_stack(StackName=stack.id)
        while (now := look(stack.id, cloudformation)).status != _DELETED:
            if now.status == _FAILED:
                raise FailedPrecondition(
                    f"Stack {stack.name} could not be deleted: {self._reasons(now)}. Remove what"
                    " hinders it, and run the command again"
                )
            tell(f"{stack.name} is {now.status}")
            self._wait(_LOOK_SECONDS)

    def _reasons(self, stack: Stack) -> str:
        """Which resources could not be deleted, and why, in CloudFormation's words."""
        reasons = []
        for each in stack.walk():
            with translate_errors(f"stack {each.name}"):
                pages = self._clients.cloudformation.get_paginator("list_stack_resources").paginate(
                    StackName=each.id
                )
                reasons += [
                    f"{found['LogicalResourceId']}: {found.get('ResourceStatusReason', _FAILED)}"
                    for page in pages
                    for found in page["StackResourceSummaries"]
                    if found["ResourceStatus"] == _FAILED
                ]
        return "; ".join(reasons) or "CloudFormation gives no reason"

    def _versions(self, bucket: str) -> Iterator[list[dict[str, str]]]:
        """All versions of all objects, by pages."""
        with translate_errors(f"bucket {bucket}"):
            pages = self._clients.s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
            for page in pages:
                found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                if found:
                    yield [{name: each[name] for name in ("Key", "VersionId")} for each in found]

    def _delete_objects(self, bucket: str, objects: Sequence[Mapping[str, str]]) -> None:
        with translate_errors(f"bucket {bucket}"):
            answer = self._clients.s3.delete_objects(
                Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
            )
        if errors := answer.get("Errors"):
            first = errors[0]
            raise FailedPrecondition(
                f"{len(errors)} objects of {bucket} could not be deleted, the first is"
                f" {first['Key']}: {first.get('Message', first.get('Code', ''))}"
            )
