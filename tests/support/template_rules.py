"""Rules for templates that AWS or `sam local` has and that neither linter checks.

A rule returns its complaints over a template as AWS SAM reads it (`unit/infra/view.py`), with its
text beside under `text`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import yaml

__all__ = [
    "RULES",
    "View",
    "events_reach_all_models",
    "image_names_are_unique",
    "integrations_fit_the_quota",
    "logs_are_kept_apart_and_not_for_ever",
    "model_blocks_are_short",
    "policies_have_no_wildcards",
    "queues_lose_nothing",
    "routes_are_legal",
    "start_api_sees_all_routes",
    "timeouts_fit",
]

View = dict[str, Any]

_MAX_INTEGRATIONS = 300  # of an HTTP API; a hard quota
_MAX_SECONDS = 29  # of a function behind an API that waits for 30
_MAX_BLOCK_LINES = 8  # of a model in the root template
_ROUTE_PART = re.compile(r"\{[\w.:-]+\+?\}|[a-zA-Z0-9.:_-]+")  # as API Gateway's error text says
_ARN = "arn:aws:{}:us-east-1:123456789012:{}"
_ARGUED = {
    "arn:aws:s3:::Models/models/*": "of this stack's own bucket, and versions come and go",
    "arn:aws:s3:::Models/models/_releases/*": "as above",
    "arn:aws:s3:::Inputs/inputs/*": "of one bucket and prefix, and files come and go",
    "arn:aws:s3:::Outputs/predictions/*": "as above",
    _ARN.format("lambda", "function:local-*"): "of models with this stack's tag, with any alias",
    "codedeploy:StopDeployment on *": "knows no resource",
    "arn:aws:s3:::Models/models/${!aws:PrincipalTag/model}/*": "of one model, as above",
    "arn:aws:s3:::Models/models/_releases/${!aws:PrincipalTag/model}/*": "as above",
    _ARN.format("cloudwatch", "alarm:*"): "of models' blocks, to be read",
    _ARN.format("ecr", "repository/*"): "of those with the tag of this stack's companion",
    "ecr:GetAuthorizationToken on *": "a login is to the registry, there is no resource",
    "arn:aws:apigateway:us-east-1::/apis/Api/integrations/*": "of this API, made when needed",
    "arn:aws:apigateway:us-east-1::/apis/Api/routes/*": "as above",
    _ARN.format("codedeploy", "deploymentgroup:local/*"): "of this stack's application",
    _ARN.format("codedeploy", "deploymentconfig:CodeDeployDefault.Lambda*"): "AWS's, to be read",
    "cloudwatch:DescribeAlarms on *": "lists, which no resource narrows",
    "arn:aws:s3:::Models/models/resnet/*": "of one model, and versions come and go",
    "ecs:DiscoverPollEndpoint on *": "where ECS is, there is no resource",
    "ecs:Poll on *": "of one cluster by its condition; the id of an instance is not known before",
    "ecs:StartTelemetrySession on *": "as above",
}
"""Wildcards that policies may have: action, resource or managed policy, and why."""


def _of_type(view: View, type_: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and properties of every resource of a type, those of nested stacks too."""
    for stack, resources in view["stacks"].items():
        for name, resource in resources.items():
            if resource["Type"] == type_:
                yield f"{stack}/{name}", resource.get("Properties", {})


def _paths(view: View) -> list[str]:
    return [route["RouteKey"].split()[1] for _, route in _of_type(view, "AWS::ApiGatewayV2::Route")]


def routes_are_legal(view: View) -> list[str]:
    return [
        f"{path}: API Gateway takes no part {part}"
        for path in _paths(view)
        for part in path.removeprefix("/").split("/")
        if not _ROUTE_PART.fullmatch(part)
    ]


def start_api_sees_all_routes(view: View) -> list[str]:
    seen = {route.split()[1] for route in view["routes"]}
    called = {route.rpartition(" ")[2] for route in view["routes"]}
    stacks = Counter(function.rpartition("/")[2] for function in called)
    return [
        *(f"{path}: hidden from sam local start-api" for path in _paths(view) if path not in seen),
        *(
            f"{function}: in {count} stacks, of which sam local start-api takes the first"
            for function, count in stacks.items()
            if count > 1
        ),
    ]


def integrations_fit_the_quota(view: View) -> list[str]:
    by_stack = Counter(
        name.rpartition("/")[0] for name, _ in _of_type(view, "AWS::ApiGatewayV2::Integration")
    )
    complaints = [
        f"{stack}: {count} integrations for one model"
        for stack, count in by_stack.items()
        if stack and count > 1
    ]
    if by_stack.total() > _MAX_INTEGRATIONS:
        complaints.append(f"{by_stack.total()} integrations, and AWS allows {_MAX_INTEGRATIONS}")
    return complaints


def image_names_are_unique(view: View) -> list[str]:
    names = Counter(
        resource["Metadata"].get("DockerImage", name).lower()
        for resources in view["stacks"].values()
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Lambda::Function"
        if "Dockerfile" in resource.get("Metadata", {})
    )
    return [
        f"{name}: {count} functions have this image" for name, count in names.items() if count > 1
    ]


def timeouts_fit(view: View) -> list[str]:
    complaints = []
    for name, integration in _of_type(view, "AWS::ApiGatewayV2::Integration"):
        if integration["IntegrationType"] != "AWS_PROXY":
            continue  # no function
        called = integration["IntegrationUri"].partition(":function:")[2].partition(":")[0]
        function, seconds = next(
            (path, properties["Timeout"])
            for path, properties in _of_type(view, "AWS::Lambda::Function")
            if called == properties.get("FunctionName", path.rpartition("/")[2])
        )
        if seconds > _MAX_SECONDS:
            complaints.append(f"{function}: {seconds} s are more than {_MAX_SECONDS}")
        if integration["TimeoutInMillis"] <= 1000 * seconds:
            complaints.append(f"{name}: gives up before its function's {seconds} s")
    return complaints


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """All dicts in `value`, itself included."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from _dicts(part)


def _listed(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def _grants(statement: dict[str, Any]) -> Iterator[str]:
    """Actions, resources and principals; of all resources, each action on them."""
    for key in ("Action", "NotAction", "Resource", "NotResource", "Principal"):
        for grant in _listed(statement.get(key, [])):
            if (key, grant) == ("Resource", "*"):
                yield from (f"{action} on *" for action in _listed(statement.get("Action", [])))
            else:
                yield grant


def policies_have_no_wildcards(view: View) -> list[str]:
    grants = [
        grant
        for part in _dicts(view["stacks"])
        if part.get("Effect") == "Allow"
        for grant in _grants(part)
    ]
    managed = [
        arn
        for _, role in _of_type(view, "AWS::IAM::Role")
        for arn in role.get("ManagedPolicyArns", ())
    ]
    unsafe = [grant for grant in grants if "*" in grant] + managed
    open_permissions = [
        f"{name}: lets any account's {permission['Principal']} in"
        for name, permission in _of_type(view, "AWS::Lambda::Permission")
        if not {"SourceArn", "SourceAccount"} & permission.keys()
    ]
    return [f"{grant}: not argued" for grant in unsafe if grant not in _ARGUED] + open_permissions


def logs_are_kept_apart_and_not_for_ever(view: View) -> list[str]:
    groups = dict(_of_type(view, "AWS::Logs::LogGroup"))
    used: Counter[str] = Counter()
    for name, function in _of_type(view, "AWS::Lambda::Function"):
        if function.get("ReservedConcurrentExecutions") == 0:
            continue  # it never runs
        group = function.get("LoggingConfig", {}).get("LogGroup")
        used[f"{name.rpartition('/')[0]}/{group}"] += 1
    return (
        [
            f"{name}: kept for ever"
            for name, group in groups.items()
            if "RetentionInDays" not in group
        ]
        + [f"{name}: not a log group here" for name in used if name not in groups]
        + [f"{name}: of {count} functions" for name, count in used.items() if count > 1]
    )


def queues_lose_nothing(view: View) -> list[str]:
    queues = dict(_of_type(view, "AWS::SQS::Queue"))
    watched = {
        f"{name.rpartition('/')[0]}/{_logical_id(dimension['Value'])}"
        for name, alarm in _of_type(view, "AWS::CloudWatch::Alarm")
        for dimension in alarm["Dimensions"]
        if dimension["Name"] == "QueueName"
    }
    redriven = {
        name: f"{name.rpartition('/')[0]}/{_logical_id(redrive['deadLetterTargetArn'])}"
        for name, queue in queues.items()
        if (redrive := queue.get("RedrivePolicy"))
    }
    return (
        [
            f"{name}: not encrypted"
            for name, queue in queues.items()
            if not (queue.get("SqsManagedSseEnabled") or "KmsMasterKeyId" in queue)
        ]
        + [
            f"{name}: neither has a queue for dead letters nor is one"
            for name in queues
            if name not in redriven and name not in redriven.values()
        ]
        + [f"{name}: no alarm" for name in redriven.values() if name not in watched]
    )


def _logical_id(reference: Any) -> str:
    """The id of a resource in this stack: AWS SAM makes up an ARN, or leaves `Fn::GetAtt`."""
    if isinstance(reference, dict):
        return str(reference["Fn::GetAtt"][0])
    return str(reference).rpartition(":")[2]


def events_reach_all_models(view: View) -> list[str]:
    """Each event goes unchanged to every model that it concerns, never dropped as a duplicate."""
    targets = [
        (name, target)
        for name, rule in _of_type(view, "AWS::Events::Rule")
        for target in rule["Targets"]
    ]
    return (
        [
            f"{name}: no message group"
            for name, target in targets
            if not target.get("SqsParameters", {}).get("MessageGroupId")
        ]
        + [
            f"{name}: events without their id are taken for doubles"
            for name, target in targets
            if {"Input", "InputPath", "InputTransformer"} & target.keys()
        ]
        + [
            f"{name}: takes the same event for another model for a double"
            for name, queue in _of_type(view, "AWS::SQS::Queue")
            if queue.get("ContentBasedDeduplication")
            and queue.get("DeduplicationScope") != "messageGroup"
        ]
    )


def _last_line(node: yaml.Node) -> int:
    """The line of the node's last word; its end mark is where the next node starts."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return max(_last_line(value) for _, value in node.value)
    return int(node.end_mark.line)


def model_blocks_are_short(view: View) -> list[str]:
    root = yaml.compose(view["text"], Loader=yaml.CSafeLoader)
    assert root is not None
    [resources] = [value for key, value in root.value if key.value == "Resources"]
    lengths = {
        key.value: _last_line(value) - key.start_mark.line + 1 for key, value in resources.value
    }
    return [
        f"{name}: {lengths[name]} lines"
        for name, resource in view["stacks"][""].items()
        if resource["Type"] == "AWS::CloudFormation::Stack"
        and resource["Properties"]["TemplateURL"].endswith("model.yaml")
        and lengths[name] > _MAX_BLOCK_LINES
    ]


RULES: tuple[Callable[[View], list[str]], ...] = (
    events_reach_all_models,
    image_names_are_unique,
    integrations_fit_the_quota,
    logs_are_kept_apart_and_not_for_ever,
    model_blocks_are_short,
    policies_have_no_wildcards,
    queues_lose_nothing,
    routes_are_legal,
    start_api_sees_all_routes,
    timeouts_fit,
)
