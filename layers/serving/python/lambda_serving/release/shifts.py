"""Traffic moved bit by bit: the calls of CodeDeploy."""

import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from lambda_serving.errors import NotFound
from lambda_serving.release.aws import explained
from lambda_serving.release.deployment import LIVE, Progress

if TYPE_CHECKING:
    from mypy_boto3_codedeploy import CodeDeployClient
    from mypy_boto3_codedeploy.literals import DeploymentStatusType

__all__ = ["Shifts"]

_UNDER_WAY: "list[DeploymentStatusType]" = [
    "Created",
    "Queued",
    "InProgress",
    "Baking",
    "Ready",
]


class Shifts:
    """Deployments of the alias `live` of one function, in the group that has its name.

    Every method raises what `aws.explained` says.
    """

    def __init__(self, application: str, function_name: str, client: "CodeDeployClient") -> None:
        self._application = application
        self._function_name = function_name
        self._client = client

    def wanted(self) -> bool:
        """Whether there is such a group: the model's block asked for it."""
        try:
            with self._explained():
                self._client.get_deployment_group(
                    applicationName=self._application, deploymentGroupName=self._function_name
                )
        except NotFound:
            return False
        return True

    def state(self, deployment: str) -> Progress:
        with self._explained():
            found = self._client.get_deployment(deploymentId=deployment)["deploymentInfo"]
        status = found["status"]
        if status == "Succeeded":
            return Progress(done=True)
        if status in _UNDER_WAY:
            return Progress()
        told = found.get("errorInformation", {})
        return Progress(failed=f"{told.get('message', status)} ({told.get('code', deployment)})")

    def start(self, before: int, after: int) -> str:
        """The id of the deployment from one function version to another.

        One that is under way already, started by who died before it was recorded, is the one.
        """
        content = self._content(before, after)
        for deployment in self._under_way():
            with self._explained():
                found = self._client.get_deployment(deploymentId=deployment)["deploymentInfo"]
            if found["revision"]["appSpecContent"].get("content") == content:
                return deployment
        with self._explained():
            made = self._client.create_deployment(
                applicationName=self._application,
                deploymentGroupName=self._function_name,
                revision={
                    "revisionType": "AppSpecContent",
                    "appSpecContent": {"content": content},
                },
            )
        return made["deploymentId"]

    def stop(self) -> None:
        """Stops what is under way; CodeDeploy leaves the alias where it was before."""
        for deployment in self._under_way():
            with self._explained():
                self._client.stop_deployment(deploymentId=deployment, autoRollbackEnabled=True)

    def _under_way(self) -> list[str]:
        with self._explained():
            pages = self._client.get_paginator("list_deployments").paginate(
                applicationName=self._application,
                deploymentGroupName=self._function_name,
                includeOnlyStatuses=_UNDER_WAY,
            )
            return [each for page in pages for each in page["deployments"]]

    def _content(self, before: int, after: int) -> str:
        """An AppSpec of the user guide's form for Lambda."""
        properties = {
            "Name": self._function_name,
            "Alias": LIVE,
            "CurrentVersion": str(before),
            "TargetVersion": str(after),
        }
        resource = {"Type": "AWS::Lambda::Function", "Properties": properties}
        return json.dumps({"version": 0.0, "Resources": [{LIVE: resource}]})

    def _explained(self) -> AbstractContextManager[None]:
        return explained(f"the traffic of function {self._function_name}")
