"""CodeDeploy's operations on deployments of Lambda functions; the test decides how they go on.

Sources: botocore's service model; the user guide on AppSpec files, on Lambda deployments that
fail, and on alarms (a deployment that one stops is Stopped). The deployment by which CodeDeploy
rolls back does not appear: it ends at once.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from support.aws_plane.functions import Given
from support.aws_plane.plane import UNFINISHED, Deployment, Plane
from support.aws_plane.refused import Refused

__all__ = ["OPERATIONS"]

_PAGE = 2
_INVALID = (
    "The deployment failed because the AppSpec file that specifies the AWS Lambda deployment"
    " configuration is missing or has an invalid configuration."
)


def _create(plane: Plane, given: Given) -> Given:
    group = _group(plane, given)
    for deployment_id, other in plane.deployments.items():
        if other.group == group and other.status in UNFINISHED:
            raise _refused(
                "DeploymentLimitExceeded",
                f"The Deployment Group '{group[1]}' already has an active Deployment"
                f" '{deployment_id}'",
            )
    if "revision" not in given:
        raise _refused("RevisionRequired", "The revision is missing")
    deployment = Deployment(
        group,
        given["revision"],
        **_properties(given["revision"]),
        alarms=_alarms(plane, group, given),
    )
    if why := _impossible(plane, deployment):
        code, message = why
        deployment.status = "Failed"
        deployment.error = {"code": code, "message": f"{_INVALID} {message}".strip()}
    elif alarms := plane.ringing & deployment.alarms:
        deployment.status = "Stopped"
        deployment.error = {"code": "ALARM_ACTIVE", "message": f"{set(alarms)} rings"}
    deployment_id = f"d-{len(plane.deployments) + 1:09}"
    plane.deployments[deployment_id] = deployment
    return {"deploymentId": deployment_id}


def _alarms(plane: Plane, group: tuple[str, str], given: Given) -> frozenset[str]:
    """The alarms that end the deployment: the group's, or those given in their place."""
    override = given.get("overrideAlarmConfiguration")
    if override is None:
        return frozenset(plane.group_alarms[group])
    names = frozenset(each["name"] for each in override.get("alarms", []))
    return names if override.get("enabled") else frozenset()


def _properties(revision: Given) -> dict[str, Any]:
    """Function, alias, current and target version of an AppSpec of one function."""
    content = revision.get("appSpecContent", {}).get("content", "")
    digest = hashlib.sha256(content.encode()).hexdigest()
    try:
        document = yaml.safe_load(content)  # JSON is YAML
        ((resource,),) = (each.values() for each in document["Resources"])
        names, versions = ("Name", "Alias"), ("CurrentVersion", "TargetVersion")
        values = [resource["Properties"][name] for name in (*names, *versions)]
        valid = (
            revision["revisionType"] == "AppSpecContent"
            and revision["appSpecContent"].get("sha256", digest) == digest
            and str(document["version"]) == "0.0"
            and document.keys() <= {"version", "Resources", "Hooks"}
            and resource["Type"] == "AWS::Lambda::Function"
            and resource["Properties"].keys() == {*names, *versions}
            and all(isinstance(value, str) for value in values)
        )
        function, alias, current, target = values[0], values[1], int(values[2]), int(values[3])
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise _refused("InvalidRevision", f"{_INVALID} {error!r}: {content}") from error
    if not valid:
        raise _refused("InvalidRevision", f"{_INVALID} {content}")
    return {"function": function, "alias": alias, "current": current, "target": target}


def _impossible(plane: Plane, deployment: Deployment) -> tuple[str, str] | None:
    """Code and message of a failure at the very start."""
    function = plane.functions.get(deployment.function)
    alias = function.aliases.get(deployment.alias) if function else None
    if function is None or alias is None or deployment.target not in function.versions:
        return "INVALID_LAMBDA_FUNCTION", "The function, its alias or version does not exist."
    if alias.function_version != deployment.current:
        return (
            "INVALID_LAMBDA_CONFIGURATION",
            "The Lambda function alias version does not match the current version in AppSpec file.",
        )
    if alias.weights:
        return "INVALID_LAMBDA_CONFIGURATION", "The alias references two versions."
    if deployment.current == deployment.target:
        return "INVALID_LAMBDA_CONFIGURATION", ""
    return None


def _get(plane: Plane, given: Given) -> Given:
    """A deployment is Created at first, and InProgress when it is looked at again."""
    deployment = _deployment(plane, given)
    application, group = deployment.group
    information = {
        "applicationName": application,
        "deploymentGroupName": group,
        "deploymentId": given["deploymentId"],
        "revision": deployment.revision,
        "status": deployment.status,
        "creator": "user",
        "computePlatform": "Lambda",
        **({"errorInformation": deployment.error} if deployment.error else {}),
    }
    if deployment.status == "Created":
        deployment.status = "InProgress"
    return {"deploymentInfo": information}


def _stop(plane: Plane, given: Given) -> Given:
    """Stops a deployment; without a rollback the alias keeps its weights."""
    if _deployment(plane, given).status not in UNFINISHED:
        raise _refused("DeploymentAlreadyCompleted", f"{given['deploymentId']} is over")
    plane.end(
        given["deploymentId"],
        "Stopped",
        "MANUAL_STOP",
        "The deployment was manually stopped by a user.",
        roll_back=given.get("autoRollbackEnabled", False),
    )
    return {"status": "Succeeded"}


def _list(plane: Plane, given: Given) -> Given:
    """Lists deployments, the newest first, two a page."""
    named = {"applicationName", "deploymentGroupName"} & given.keys()
    if len(named) == 1:
        missing = "ApplicationName" if "deploymentGroupName" in named else "DeploymentGroupName"
        raise _refused(f"{missing}Required", f"{missing} is missing")
    group = _group(plane, given) if named else None
    statuses = given.get("includeOnlyStatuses")
    every = [
        deployment_id
        for deployment_id, deployment in reversed(plane.deployments.items())
        if (group in {None, deployment.group}) and (not statuses or deployment.status in statuses)
    ]
    start = int(given.get("nextToken", "0"))
    more = {"nextToken": str(start + _PAGE)} if start + _PAGE < len(every) else {}
    return {"deployments": every[start : start + _PAGE], **more}


def _group(plane: Plane, given: Given) -> tuple[str, str]:
    application, group = given["applicationName"], given.get("deploymentGroupName")
    if application not in {known for known, _ in plane.groups}:
        raise _refused("ApplicationDoesNotExist", f"No application found for name: {application}")
    if group is None:
        raise _refused("DeploymentGroupNameRequired", "The deployment group is missing")
    if (application, group) not in plane.groups:
        raise _refused(
            "DeploymentGroupDoesNotExist", f"No Deployment Group found for name: {group}"
        )
    return application, group


def _get_group(plane: Plane, given: Given) -> Given:
    application, group = _group(plane, given)
    alarms = [{"name": name} for name in plane.group_alarms[application, group]]
    return {
        "deploymentGroupInfo": {
            "applicationName": application,
            "deploymentGroupName": group,
            "computePlatform": "Lambda",
            "alarmConfiguration": {"enabled": bool(alarms), "alarms": alarms},
        }
    }


def _deployment(plane: Plane, given: Given) -> Deployment:
    deployment_id = given["deploymentId"]
    if deployment_id not in plane.deployments:
        raise _refused(
            "DeploymentDoesNotExist", f"The deployment {deployment_id} could not be found"
        )
    return plane.deployments[deployment_id]


def _refused(error: str, message: str) -> Refused:
    return Refused(400, f"{error}Exception", message)


OPERATIONS: Mapping[str, Callable[[Plane, Given], Given]] = {
    "CreateDeployment": _create,
    "GetDeployment": _get,
    "GetDeploymentGroup": _get_group,
    "ListDeployments": _list,
    "StopDeployment": _stop,
}
