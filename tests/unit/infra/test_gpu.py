"""A model whose block says `Target: gpu`: what stands in for its function, and who reaches it."""

import base64
import re
from pathlib import Path
from typing import Any

from lambda_serving.config.server_flags import flags
from support.template_rules import View

_ROOT = Path(__file__).parents[3]
_API_SECONDS, _API_BYTES = 30, 10 * 2**20
_MOST_TASKS = 4


def _properties(view: View, name: str) -> dict[str, Any]:
    found: dict[str, Any] = view["stacks"]["Resnet/Gpu"][name]["Properties"]
    return found


def _routes(view: View, stack: str, model: str) -> dict[str, dict[str, Any]]:
    """Routes of a model by their keys, with the model's name left out."""
    routes = {}
    for resource in view["stacks"][stack].values():
        if resource["Type"] == "AWS::ApiGatewayV2::Route":
            properties = dict(resource["Properties"])
            routes[properties.pop("RouteKey").replace(model, "NAME")] = properties
    return routes


def _server(view: View) -> dict[str, Any]:
    [server] = _properties(view, "Task")["ContainerDefinitions"]
    return dict(server)


def _flags(view: View) -> dict[str, str]:
    return {
        name: value
        for flag in _server(view)["Command"]
        for name, _, value in [flag.removeprefix("--").partition("=")]
    }


def _flow(rule: dict[str, Any]) -> tuple[Any, ...]:
    """Protocol, ports and the other side of a rule of a security group."""
    other = next(rule[key] for key in rule if key.endswith("SecurityGroupId") or key == "CidrIp")
    return rule["IpProtocol"], rule["FromPort"], rule["ToPort"], other


def test_nothing_but_routes_is_beside_the_server(full: View) -> None:
    types = {resource["Type"] for resource in full["stacks"]["Resnet"].values()}
    assert types == {"AWS::ApiGatewayV2::Route", "AWS::CloudFormation::Stack"}


def test_function_is_neither_built_for_it_nor_is_a_server_there_for_others(full: View) -> None:
    assert "MLP/PredictFunction" in full["built"]
    assert "Resnet/PredictFunction" not in full["built"]
    assert "MLP/Gpu" not in full["stacks"]


def test_routes_are_those_of_a_function_for_the_same_callers(full: View) -> None:
    ours, theirs = _routes(full, "Resnet", "resnet"), _routes(full, "MLP", "MLP")
    assert {route.pop("Target") for route in ours.values()} == {
        "integrations/${Gpu.Outputs.Integration}"
    }
    assert {route.pop("Target") for route in theirs.values()} == {"integrations/Integration"}
    assert ours == theirs
    assert len(ours) == 6


def test_api_reaches_the_servers_by_the_link(full: View) -> None:
    integration = _properties(full, "Integration")
    assert (integration["IntegrationType"], integration["IntegrationMethod"]) == (
        "HTTP_PROXY",
        "ANY",
    )
    assert (integration["ConnectionType"], integration["ConnectionId"]) == ("VPC_LINK", "Link")
    assert integration["IntegrationUri"] == "Listener"
    [action] = _properties(full, "Listener")["DefaultActions"]
    [target] = _properties(full, "Service")["LoadBalancers"]
    assert action["TargetGroupArn"] == target["TargetGroupArn"] == "Servers"
    assert _properties(full, "Balancer")["Scheme"] == "internal"


def test_connections_are_open_along_one_way_only(full: View) -> None:
    groups = {
        name: [_flow(rule) for rule in resource["Properties"]["SecurityGroupEgress"]]
        for name, resource in full["stacks"]["Resnet/Gpu"].items()
        if resource["Type"] == "AWS::EC2::SecurityGroup"
        if "SecurityGroupIngress" not in resource["Properties"]
    }
    assert groups == {
        "LinkGroup": [("tcp", 8501, 8501, "BalancerGroup")],
        "BalancerGroup": [("tcp", 8501, 8501, "TaskGroup")],
        "TaskGroup": [("tcp", 443, 443, "0.0.0.0/0")],
        "InstanceGroup": [("tcp", 443, 443, "0.0.0.0/0")],
    }
    doors = {
        (resource["Properties"]["GroupId"], *_flow(resource["Properties"]))
        for resource in full["stacks"]["Resnet/Gpu"].values()
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress"
    }
    assert doors == {
        ("BalancerGroup", "tcp", 8501, 8501, "LinkGroup"),
        ("TaskGroup", "tcp", 8501, 8501, "BalancerGroup"),
    }


def test_instances_have_no_public_address_and_keep_their_credentials(full: View) -> None:
    data = _properties(full, "InstanceTemplate")["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert [each["AssociatePublicIpAddress"] for each in data["NetworkInterfaces"]] == [False]
    assert [disk["Ebs"]["Encrypted"] for disk in data["BlockDeviceMappings"]] == [True]
    script = base64.b64decode(data["UserData"]).decode()
    assert {"ECS_AWSVPC_BLOCK_IMDS=true", "ECS_ENABLE_GPU_SUPPORT=true"} <= set(script.split("\n"))
    network = _properties(full, "Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"


def test_server_reads_one_model_and_nothing_else(full: View) -> None:
    [policy] = _properties(full, "TaskRole")["Policies"]
    grants = [
        (each["Action"], each["Resource"], each.get("Condition"))
        for each in policy["PolicyDocument"]["Statement"]
    ]
    assert grants == [
        (
            "s3:ListBucket",
            "arn:aws:s3:::Models",
            {"StringLike": {"s3:prefix": "models/resnet/*"}},
        ),
        ("s3:GetObject", "arn:aws:s3:::Models/models/resnet/*", None),
    ]


def test_server_is_told_its_model_as_the_image_wants_it(full: View) -> None:
    environment = {each["Name"]: each["Value"] for each in _server(full)["Environment"]}
    assert environment["MODEL_NAME"] == "resnet"
    assert environment["MODEL_BASE_PATH"] == "s3://Models/models"
    start = (_ROOT / "images/bin/tf_serving_entrypoint.sh").read_text()
    assert "${MODEL_BASE_PATH}/${MODEL_NAME}" in start
    [port] = re.findall(r"--rest_api_port=(\d+)", start)
    assert [each["ContainerPort"] for each in _server(full)["PortMappings"]] == [int(port)]


def test_server_has_a_gpu_and_flags_that_exist(full: View) -> None:
    assert _server(full)["ResourceRequirements"] == [{"Type": "GPU", "Value": "1"}]
    assert _flags(full).keys() <= {flag.name for flag in flags()}


def test_server_takes_what_the_api_takes_and_answers_before_it_gives_up(full: View) -> None:
    assert int(_flags(full)["rest_api_max_body_bytes"]) == _API_BYTES
    milliseconds = _properties(full, "Integration")["TimeoutInMillis"]
    assert int(_flags(full)["rest_api_timeout_in_ms"]) < milliseconds <= 1000 * _API_SECONDS


def test_server_that_stops_has_time_for_what_it_is_at(full: View) -> None:
    assert _server(full)["StopTimeout"] > int(_flags(full)["drain_seconds"]) >= _API_SECONDS
    attributes = {
        each["Key"]: each["Value"] for each in _properties(full, "Servers")["TargetGroupAttributes"]
    }
    assert int(attributes["deregistration_delay.timeout_seconds"]) > _API_SECONDS


def test_new_task_has_an_instance_and_comes_before_the_old_one_goes_or_not_at_all(
    full: View,
) -> None:
    deployment = _properties(full, "Service")["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (100, 200)
    assert int(_properties(full, "Instances")["MaxSize"]) == 2 * _MOST_TASKS
    assert f"MaxValue: {_MOST_TASKS}\n" in (_ROOT / "infra/gpu.yaml").read_text()


def test_server_is_in_use_only_when_its_model_answers(full: View) -> None:
    group = _properties(full, "Servers")
    assert (group["HealthCheckProtocol"], group["HealthCheckPath"]) == ("HTTP", "/readyz")
    alarm = _properties(full, "NoServer")
    assert (alarm["MetricName"], alarm["TreatMissingData"]) == ("HealthyHostCount", "breaching")


def test_sam_pushes_no_image_that_it_did_not_build() -> None:
    # It takes a plain text for an image of this machine, and the lack of one for an error.
    template = (_ROOT / "infra/model.yaml").read_text()
    assert re.findall(r"^      ImageUri: (!?)", template, re.MULTILINE) == ["!"]
