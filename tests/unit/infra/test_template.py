"""Our templates obey every rule of `template_rules`, and a template that breaks one is told so."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from support.template_rules import (
    RULES,
    View,
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

_ROOT = Path(__file__).parents[3]
_Rule = Callable[[View], list[str]]

_FUNCTION = """
F:
  Type: AWS::Serverless::Function
  Properties:
    PackageType: Image
    Timeout: 30
    Role: arn:aws:iam::123456789012:role/r
    LoggingConfig: {LogGroup: Elsewhere}
  Metadata: {Dockerfile: Dockerfile, DockerContext: ., DockerImage: Same}
"""
_API = """
Api: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: a, ProtocolType: HTTP}}
"""
_ROUTES = """
I:
  Type: AWS::ApiGatewayV2::Integration
  Properties:
    ApiId: !Ref Api
    IntegrationType: AWS_PROXY
    IntegrationUri: !GetAtt F.Arn
    TimeoutInMillis: 30000
R:
  Type: AWS::ApiGatewayV2::Route
  Properties: {ApiId: !Ref Api, RouteKey: "POST /v1/{model}:predict", Target: integrations/I}
"""
_WIDE = """
Role:
  Type: AWS::IAM::Role
  Properties:
    ManagedPolicyArns: [arn:aws:iam::aws:policy/AdministratorAccess]
    Policies:
      - PolicyDocument: {Statement: [{Effect: Allow, Action: "s3:*", Resource: [a, "b/*"]}]}
Topic:
  Type: AWS::SNS::TopicPolicy
  Properties:
    PolicyDocument: {Statement: {Effect: Allow, Principal: "*", Action: x, Resource: "*"}}
Permission: {Type: AWS::Lambda::Permission, Properties: {Principal: s3.amazonaws.com}}
"""
_LONG = """
Model:
  Type: AWS::CloudFormation::Stack
  Properties:
    TemplateURL: https://example.com/model.yaml
    Parameters:
      A: 1
      B: 2
      C: 3
      D: {E: [3,
        4]}

  # not of the block
"""
_QUEUES = """
Q: {Type: AWS::SQS::Queue, Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn}}}
Dead: {Type: AWS::SQS::Queue, Properties: {SqsManagedSseEnabled: true}}
Lonely: {Type: AWS::SQS::Queue, Properties: {SqsManagedSseEnabled: true, FifoQueue: true}}
"""
_RULE = """
Q: {Type: AWS::SQS::Queue, Properties: {FifoQueue: true, ContentBasedDeduplication: true}}
R: {Type: AWS::Events::Rule, Properties: {Targets: [{Id: a, Arn: !GetAtt Q.Arn, Input: same}]}}
"""
_LOGS = "\nLogs: {Type: AWS::Logs::LogGroup}\n"
_MANY = "".join(
    f"\nI{n}: {{Type: AWS::ApiGatewayV2::Integration, Properties: {{}}}}" for n in range(301)
)

_BAD: list[tuple[_Rule, str, list[str]]] = [
    (
        routes_are_legal,
        _API + _FUNCTION + _ROUTES,
        ["/v1/{model}:predict: API Gateway takes no part {model}:predict"],
    ),
    (
        start_api_sees_all_routes,
        _FUNCTION + _API + _ROUTES,
        ["/v1/{model}:predict: hidden from sam local start-api"],
    ),
    (integrations_fit_the_quota, _MANY, ["301 integrations, and AWS allows 300"]),
    (
        image_names_are_unique,
        _FUNCTION + _FUNCTION.replace("F:", "G:").replace("Same", "SAME"),
        ["same: 2 functions have this image"],
    ),
    (
        timeouts_fit,
        _API + _FUNCTION + _ROUTES,
        ["/F: 30 s are more than 29", "/I: gives up before its function's 30 s"],
    ),
    (
        policies_have_no_wildcards,
        _WIDE,
        [
            "s3:*: not argued",
            "b/*: not argued",
            "x on *: not argued",
            "*: not argued",
            "arn:aws:iam::aws:policy/AdministratorAccess: not argued",
            "/Permission: lets any account's s3.amazonaws.com in",
        ],
    ),
    (
        logs_are_kept_apart_and_not_for_ever,
        _LOGS + _FUNCTION + _FUNCTION.replace("F:", "G:"),
        ["/Logs: kept for ever", "/Elsewhere: not a log group here", "/Elsewhere: of 2 functions"],
    ),
    (model_blocks_are_short, _LONG, ["Model: 10 lines"]),
    (
        queues_lose_nothing,
        _QUEUES,
        [
            "/Q: not encrypted",
            "/Lonely: neither has a queue for dead letters nor is one",
            "/Dead: no alarm",
        ],
    ),
    (
        events_reach_all_models,
        _RULE,
        [
            "/R: no message group",
            "/R: events without their id are taken for doubles",
            "/Q: takes the same event for another model for a double",
        ],
    ),
]
_TRANSFORM = "Transform: AWS::Serverless-2016-10-31\nResources:\n"


@pytest.fixture(scope="module")
def bad_views(
    read: Callable[..., list[View]], tmp_path_factory: pytest.TempPathFactory
) -> list[View]:
    """The bad templates as AWS SAM reads them."""
    folder = tmp_path_factory.mktemp("templates")
    files = [folder / f"{number}.yaml" for number in range(len(_BAD))]
    for file, (_, resources, _) in zip(files, _BAD, strict=True):
        file.write_text(_TRANSFORM + textwrap.indent(resources, "  "))
    return read(*files)


@pytest.mark.parametrize("rule", [rule for rule, _, _ in _BAD], ids=lambda rule: rule.__name__)
def test_rule_has_no_complaint_about_our_template(rule: _Rule, view: View) -> None:
    assert rule(view) == []


@pytest.mark.parametrize(
    "rule",
    [rule for rule, _, _ in _BAD if rule is not model_blocks_are_short],
    ids=lambda rule: rule.__name__,
)
def test_rule_has_no_complaint_about_all_that_blocks_may_ask_for(rule: _Rule, full: View) -> None:
    assert rule(full) == []


def test_each_rule_is_tried() -> None:
    assert {rule for rule, _, _ in _BAD} == {*RULES}


@pytest.mark.parametrize("number", range(len(_BAD)), ids=[rule.__name__ for rule, _, _ in _BAD])
def test_rule_complains_about_a_template_that_breaks_it(number: int, bad_views: list[View]) -> None:
    rule, _, complaints = _BAD[number]
    assert rule(bad_views[number]) == complaints


def test_second_integration_of_a_model_is_one_too_many() -> None:
    integration = {"Type": "AWS::ApiGatewayV2::Integration"}
    stacks = {"": {}, "M": {"I": integration, "J": integration}, "N": {"I": integration}}
    assert integrations_fit_the_quota({"stacks": stacks}) == ["M: 2 integrations for one model"]


def test_functions_of_one_name_in_two_stacks_are_one_too_many() -> None:
    view = {"stacks": {}, "routes": ["GET /a -> A/F", "GET /b -> B/F", "GET /c -> B/F"]}
    assert start_api_sees_all_routes(view) == [
        "F: in 2 stacks, of which sam local start-api takes the first"
    ]


@pytest.mark.parametrize("model", ["MLP", "HalfPlusTwo"])
def test_start_api_serves_each_model_by_its_own_function(model: str, view: View) -> None:
    routes = [
        f"POST /v1/models/{model}:predict",
        f"POST /v1/models/{model}:classify",
        f"POST /v1/models/{model}:regress",
        f"GET /v1/models/{model}",
        f"GET /v1/models/{model}/{{proxy+}}",
        f"POST /v1/models/{model}/{{proxy+}}",
    ]
    function = view["stacks"][model]["PredictFunction"]["Properties"]["FunctionName"]
    assert function.endswith(f"-{model}")
    assert {f"{route} -> {model}/{function}" for route in routes} <= set(view["routes"])


_SIGNED = {  # @smithy/signature-v4 sends the second unless it is told not to
    "authorization",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
}
_GRPC_WEB = {"authorization", "content-type", "grpc-timeout", "x-grpc-web", "x-user-agent"}


@pytest.mark.parametrize("needed", [_SIGNED, _GRPC_WEB, {"content-type", "content-encoding"}])
def test_pages_of_allowed_origins_may_send_what_they_need(needed: set[str], view: View) -> None:
    _, cors, _ = view["stacks"]["System"]["Api"]["Properties"]["CorsConfiguration"]["Fn::If"]
    assert needed <= set(cors["AllowHeaders"])


@pytest.mark.parametrize(
    ("model", "folder"),
    [("MLP", "examples/mnist/saved"), ("HalfPlusTwo", "examples/half_plus_two")],
)
def test_image_of_a_model_holds_its_folder(model: str, folder: str, view: View) -> None:
    build = view["stacks"][model]["PredictFunction"]["Metadata"]
    assert (build["DockerImage"], build["DockerBuildArgs"]["MODEL"]) == (f"predict-{model}", folder)


def test_dashboard_and_access_log_are_json(view: View) -> None:
    system = view["stacks"]["System"]
    assert json.loads(system["Stage"]["Properties"]["AccessLogSettings"]["Format"])
    dashboard = system["Dashboard"]["Properties"]["DashboardBody"]
    assert json.loads(dashboard)


def test_base_image_is_that_of_the_dockerfile() -> None:
    dockerfile = (_ROOT / "images/Dockerfile").read_text()
    [base_image] = re.findall(r"^ARG BASE_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
    assert f"Default: {base_image}\n" in (_ROOT / "template.yaml").read_text()


def test_custom_domain_of_the_page_is_two_resources_that_the_linter_takes(
    sam_says: Callable[..., str], tmp_path: Path
) -> None:
    page = (_ROOT / "docs/deploy.md").read_text()
    [block] = re.findall(r"^```yaml\n(  Domain:.*?)^```", page, re.MULTILINE | re.DOTALL)
    system = "{Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: https://example.com/}}"
    template = tmp_path / "template.yaml"
    template.write_text(f"Resources:\n  System: {system}\n{block}")
    assert sam_says(_ROOT / ".venv-sam/bin/cfn-lint", template) == ""


def test_base_path_reaches_the_functions(view: View) -> None:
    assert "API_BASE_PATH: !Ref BasePath" in (_ROOT / "infra/model.yaml").read_text()
    assert "BasePath: !Ref BasePath" in view["text"]
