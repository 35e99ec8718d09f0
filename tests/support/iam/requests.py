"""The permissions that a request to AWS needs: actions, resources, and the context of conditions.

Sources: the service authorization reference of each service; S3's "Required permissions for Amazon
S3 API operations" and "Conditional writes"; API Gateway's actions are HTTP methods and its
resources are paths; Lambda's developer guide, "Fine-tuning the Resources and Conditions sections of
policies".
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

__all__ = ["Ask", "of_codedeploy", "of_http", "of_lambda"]

_QUALIFIED = {
    "AddPermission",
    "GetProvisionedConcurrencyConfig",
    "Invoke",
    "RemovePermission",
}
"""Operations of Lambda compared by the version's or alias's ARN; others by the function's."""
_SHIFTING = "CodeDeployDefault.LambdaCanary10Percent5Minutes"
_IMAGES = ("BatchGetImage", "GetDownloadUrlForLayer", "GetRepositoryPolicy")


@dataclass(frozen=True, slots=True)
class Ask:
    """An action on a resource; AWS skips an `optional` one if it is denied."""

    action: str
    resource: str
    context: Mapping[str, str | list[str]] = field(default_factory=dict)
    optional: bool = False


def of_lambda(operation: str, given: Mapping[str, Any], place: str) -> list[Ask]:
    """The permissions for an operation of Lambda; `place` is `REGION:ACCOUNT`."""
    name = given["FunctionName"].rpartition("function:")[2]
    arn = f"arn:aws:lambda:{place}:function:{name}"
    if operation in _QUALIFIED and "Qualifier" in given:
        arn = f"{arn}:{given['Qualifier']}"
    context = {"lambda:Principal": given["Principal"]} if "Principal" in given else {}
    action = "InvokeFunction" if operation == "Invoke" else operation
    asks = [Ask(f"lambda:{action}", arn, context)]
    if operation == "GetFunction":
        asks.append(Ask("lambda:ListTags", arn, optional=True))
    if operation == "UpdateFunctionCode":
        repository = given["ImageUri"].partition("@")[0].partition("/")[2].partition(":")[0]
        images = f"arn:aws:ecr:{place}:repository/{repository}"
        asks += [Ask(f"ecr:{action}", images) for action in _IMAGES]
    return asks


def of_codedeploy(
    operation: str, given: Mapping[str, Any], place: str, groups: Mapping[str, tuple[str, str]]
) -> list[Ask]:
    """The permissions for an operation of CodeDeploy; `groups` are those of deployments.

    Creating a deployment also reads its configuration and registers its revision.
    """
    if operation == "StopDeployment":
        return [Ask("codedeploy:StopDeployment", "*")]
    named = given.get("applicationName", ""), given.get("deploymentGroupName", "")
    application, group = groups.get(given.get("deploymentId", ""), named)
    arn = f"arn:aws:codedeploy:{place}"
    asks = [Ask(f"codedeploy:{operation}", f"{arn}:deploymentgroup:{application}/{group}")]
    if operation == "CreateDeployment":
        asks += [
            Ask("codedeploy:GetDeploymentConfig", f"{arn}:deploymentconfig:{_SHIFTING}"),
            Ask("codedeploy:GetApplicationRevision", f"{arn}:application:{application}"),
            Ask("codedeploy:RegisterApplicationRevision", f"{arn}:application:{application}"),
        ]
    return asks


def of_http(
    service: str,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    place: str,
) -> list[Ask]:
    """The permissions for a request to another service; fails for an unknown one."""
    match service:
        case "s3":
            given = parse_qs(query, keep_blank_values=True)
            return _of_s3(method, path, given, compares=bool(headers.get("If-Match")))
        case "apigateway":
            region = place.partition(":")[0]
            return [Ask(f"apigateway:{method}", f"arn:aws:apigateway:{region}::{path[3:]}")]
        case "monitoring":
            target = headers.get("X-Amz-Target", "").rpartition(".")[2]
            operation = target or path.rpartition("/")[2]
            alarms = f"arn:aws:cloudwatch:{place}:alarm:any"
            return [Ask(f"cloudwatch:{operation}", alarms if "Alarm" in operation else "*")]
        case "sts":
            told = parse_qs(body.decode(), keep_blank_values=True)
            return _of_sts({key: value for key, [value, *_] in told.items()})
    operation = headers.get("X-Amz-Target", "").rpartition(".")[2]
    return [
        Ask(f"{service}:{operation}", f"arn:aws:{service}:{place}:{resource}", context)
        for resource, context in _of_json(service, json.loads(body))
    ]


def _of_json(service: str, given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Resources and their contexts; fails for an unknown service."""
    match service:
        case "sqs":
            yield given.get("QueueName") or given["QueueUrl"].rpartition("/")[2], {}
        case "ecr":
            yield f"repository/{given['repositoryName']}", {}
        case "logs":
            yield f"log-group:{given['logGroupName']}", {}
        case "events":
            for each in given["Entries"]:
                told = {"events:source": each["Source"], "events:detail-type": each["DetailType"]}
                yield "event-bus/default", told
        case _:
            raise AssertionError(f"nobody knows what {service} asks for")


def _of_s3(
    method: str, path: str, query: Mapping[str, list[str]], *, compares: bool = False
) -> list[Ask]:
    """The permissions for S3: a write on condition of an ETag also needs the right to read."""
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if not key and "tagging" in query:
        assert method == "GET", method
        return [Ask("s3:GetBucketTagging", arn)]
    if not key:
        return [_of_bucket(method, arn, query)]
    match method:
        case "GET" | "HEAD":
            action = "GetObject"
        case "PUT" | "POST":
            action = "PutObject"
        case "DELETE":
            action = "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
    actions = {action, "GetObject"} if compares else {action}
    return [Ask(f"s3:{each}", f"{arn}/{key}") for each in sorted(actions)]


def _of_bucket(method: str, arn: str, query: Mapping[str, list[str]]) -> Ask:
    """The permission for a request to a bucket as a whole; fails for an unknown one."""
    match method:
        case "GET" if "list-type" in query:
            return Ask("s3:ListBucket", arn, {"s3:prefix": query.get("prefix", [""])[0]})
        case "GET" if "versions" in query:
            return Ask("s3:ListBucketVersions", arn)
        case "HEAD":
            return Ask("s3:ListBucket", arn)
        case "POST" if "delete" in query:  # of versions, which the body names
            return Ask("s3:DeleteObjectVersion", f"{arn}/any")
        case "DELETE":
            return Ask("s3:DeleteBucket", arn)
    raise AssertionError(f"nobody knows what {method} {arn} {sorted(query)} asks for")


def _of_sts(given: Mapping[str, str]) -> list[Ask]:
    tags = {
        given[f"Tags.member.{number}.Key"]: given[f"Tags.member.{number}.Value"]
        for number in range(1, 51)
        if f"Tags.member.{number}.Key" in given
    }
    context = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    asks = [Ask(f"sts:{given['Action']}", given["RoleArn"], context)]
    return asks + [Ask("sts:TagSession", given["RoleArn"], context)] * bool(tags)
