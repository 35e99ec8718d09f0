"""Moves traffic bit by bit: the calls to CodeDeploy."""

import json
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import Aborted, NotFound
from lambda_serving.release.aws.clients import connect, translate_errors
from lambda_serving.release.deciding.model_state import LIVE, Progress, Refusal

if TYPE_CHECKING:
    from mypy_boto3_codedeploy import CodeDeployClient
    from mypy_boto3_codedeploy.literals import DeploymentStatusType
    from mypy_boto3_codedeploy.type_defs import DeploymentInfoTypeDef

__all__ = ["Shifts"]

_UNDER_WAY: "list[DeploymentStatusType]" = ["Created", "Queued", "InProgress", "Baking", "Ready"]


class Shifts:
    """Deployments of the alias `live` of one function, in the deployment group of the same name.

    Every method raises what `translate_errors` raises.
    """

    def __init__(self, application: str, function_name: str, client: "CodeDeployClient") -> None:
        self._application = application
        self._function_name = function_name
        self._client = client

    def wanted(self) -> bool:
        """Whether the group exists, which means that the model's block asked for it."""
        try:
            with self._translate_errors():
                self._client.get_deployment_group(
                    applicationName=self._application, deploymentGroupName=self._function_name
                )
        except NotFound:
            return False
        return True

    def state(self, deployment: str) -> Progress:
        found = self._look(deployment)
        status = found["status"]
        if status == "Succeeded":
            return Progress(done=True)
        if status in _UNDER_WAY:
            return Progress()
        told = found.get("errorInformation", {})
        code, message = told.get("code", ""), told.get("message", f"{deployment} is {status}")
        return Progress(failed=Refusal(code, message))

    def start(self, before: int, after: int) -> str:
        """Starts a deployment from one function version to another and returns its id.

        If a run died before it recorded the deployment that it had started, returns that one's id.
        """
        content = self._content(before, after)
        for deployment in self.under_way():
            if self._look(deployment)["revision"]["appSpecContent"].get("content") == content:
                return deployment
        # An alarm that already rings would end the deployment at once. The live version is the
        # cause, and the new one may be the fix, so traffic shifts without alarms.
        override: dict[str, Any] = {"overrideAlarmConfiguration": {"enabled": False}}
        with self._translate_errors():
            made = self._client.create_deployment(
                applicationName=self._application,
                deploymentGroupName=self._function_name,
                revision={"revisionType": "AppSpecContent", "appSpecContent": {"content": content}},
                **(override if self._rings() else {}),
            )
        return made["deploymentId"]

    def stop(self) -> None:
        """Stops all unfinished deployments; CodeDeploy moves the alias back."""
        for deployment in self.under_way():
            with suppress(Aborted), self._translate_errors():  # Aborted: it has ended meanwhile
                self._client.stop_deployment(deploymentId=deployment, autoRollbackEnabled=True)

    def under_way(self) -> list[str]:
        """The unfinished deployments, except those by which CodeDeploy rolls back."""
        with self._translate_errors():
            pages = self._client.get_paginator("list_deployments").paginate(
                applicationName=self._application,
                deploymentGroupName=self._function_name,
                includeOnlyStatuses=_UNDER_WAY,
            )
            found = [each for page in pages for each in page["deployments"]]
        return [each for each in found if self._look(each)["creator"] != "codeDeployRollback"]

    def _look(self, deployment: str) -> "DeploymentInfoTypeDef":
        with self._translate_errors():
            return self._client.get_deployment(deploymentId=deployment)["deploymentInfo"]

    def _rings(self) -> bool:
        """Whether any of the group's alarms is ringing."""
        with self._translate_errors():
            group = self._client.get_deployment_group(
                applicationName=self._application, deploymentGroupName=self._function_name
            )["deploymentGroupInfo"]
        configured = group.get("alarmConfiguration", {})
        names = [each["name"] for each in configured.get("alarms", [])]
        if not names or not configured.get("enabled"):
            return False
        [alarms] = connect("cloudwatch")
        with self._translate_errors():
            found = alarms.describe_alarms(AlarmNames=names, StateValue="ALARM")
        return bool(found["MetricAlarms"])

    def _content(self, before: int, after: int) -> str:
        """An AppSpec for Lambda, as CodeDeploy's user guide has it."""
        properties = {
            "Name": self._function_name,
            "Alias": LIVE,
            "CurrentVersion": str(before),
            "TargetVersion": str(after),
        }
        resource = {"Type": "AWS::Lambda::Function", "Properties": properties}
        return json.dumps({"version": 0.0, "Resources": [{LIVE: resource}]})

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_errors(f"the traffic of function {self._function_name}")
