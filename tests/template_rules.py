"""What AWS would refuse, or `sam local` would not see, and neither linter tells.

A rule returns its complaints over a template as AWS SAM reads it (`unit/infra/view.py`), with its
text beside under `text`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

__all__ = [
    "View",
    "image_names_are_unique",
    "integrations_fit_the_quota",
    "logs_are_kept_apart_and_not_for_ever",
    "model_blocks_are_short",
    "policies_have_no_wildcards",
    "routes_are_legal",
    "start_api_sees_all_routes",
    "timeouts_fit",
]

View = dict[str, Any]

_MAX_INTEGRATIONS = 300  # of an HTTP API; a hard quota
_MAX_SECONDS = 29  # of a function behind an API that waits for 30
_MAX_BLOCK_LINES = 8  # of a model in the root template
_ROUTE_PART = re.compile(r"\{[\w.:-]+\+?\}|[a-zA-Z0-9.:_-]+")  # as API Gateway's error text says
_ARGUED: dict[str, str] = {}
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
        if "Dockerfile" in resource.get("Metadata", {})
    )
    return [
        f"{name}: {count} functions have this image" for name, count in names.items() if count > 1
    ]


def timeouts_fit(view: View) -> list[str]:
    complaints = []
    for name, integration in _of_type(view, "AWS::ApiGatewayV2::Integration"):
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
    """`value` and all that is in it, where that is a dict."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from _dicts(part)


def _listed(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def policies_have_no_wildcards(view: View) -> list[str]:
    grants = [
        grant
        for part in _dicts(view["stacks"])
        for key in ("Action", "NotAction", "Resource", "NotResource", "Principal")
        if part.get("Effect") == "Allow" and key in part
        for grant in _listed(part[key])
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


def _last_line(node: yaml.Node) -> int:
    """The line of the node's last word; its end mark is where the next node starts."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return max(_last_line(value) for _, value in node.value)
    return int(node.end_mark.line)


def model_blocks_are_short(view: View) -> list[str]:
    root = yaml.compose(view["text"], Loader=yaml.SafeLoader)
    assert root is not None
    [resources] = [value for key, value in root.value if key.value == "Resources"]
    lengths = {
        key.value: _last_line(value) - key.start_mark.line + 1 for key, value in resources.value
    }
    return [
        f"{name}: {lengths[name]} lines"
        for name, resource in view["stacks"][""].items()
        if resource["Type"] == "AWS::CloudFormation::Stack" and lengths[name] > _MAX_BLOCK_LINES
    ]
