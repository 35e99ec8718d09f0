"""The page of beliefs about AWS and the tool that runs its commands agree with the services."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
import pytest
from botocore.stub import Stubber
from botocore.validate import ParamValidator
from click.testing import CliRunner
from moto import mock_aws

from aws_check import PAGE, VARIABLES, Row, main, outcome, parse, rows, run, variables

_ROOT = Path(__file__).parents[3]
_PAGE = PAGE.read_text(encoding="utf-8")
_SECTIONS = [
    "Lambda",
    "API Gateway",
    "SQS and EventBridge",
    "S3 and ECR",
    "IAM",
    "CloudFormation, alarms, metrics",
    "Runtime and events",
]
_VALUES = {name: f"a-{name.lower()}" for name in VARIABLES} | {"ACCOUNT": "123456789012"}


@pytest.fixture(scope="module")
def session() -> Any:
    """A session that has every service's description and makes no request."""
    return botocore.session.get_session()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A session whose services are moto's."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield botocore.session.get_session()


def test_page_has_rows_in_every_section() -> None:
    assert re.findall(r"^## (.*)$", _PAGE, re.MULTILINE) == _SECTIONS
    assert {row.section for row in rows(_PAGE)} == set(_SECTIONS)


_SAMPLES = {"integer": 1, "long": 1, "double": 1.5, "float": 1.5, "boolean": True}


class _Map(dict[str, Any]):
    """Has the same value for every key."""

    def get(self, _: str, __: Any = None) -> Any:
        return self["key"]


def _sample(shape: Any, depth: int = 6) -> Any:
    """An answer of that shape with one of everything: functions of queries are told its types."""
    match shape.type_name:
        case _ if not depth:
            return None
        case "structure":
            return {name: _sample(each, depth - 1) for name, each in shape.members.items()}
        case "list":
            return [_sample(shape.member, depth - 1)]
        case "map":
            return _Map(key=_sample(shape.value, depth - 1))
        case name:
            return _SAMPLES.get(name, "text")


@pytest.mark.parametrize("row", rows(_PAGE), ids=lambda row: row.belief[:40])
def test_row_says_by_hand_or_has_a_command_that_the_service_knows(row: Row, session: Any) -> None:
    if row.by_hand:
        return
    command = parse(row.command, _VALUES, session)
    operation = session.get_service_model(command.service).operation_model(command.operation)
    report = ParamValidator().validate(command.parameters, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    if command.query:
        jmespath.search(command.query, _sample(operation.output_shape))
    assert set(re.findall(r"\$\{?([A-Z]+)", row.command)) <= set(VARIABLES)


@pytest.mark.parametrize(
    "row",
    ["| a | b | c |", "| a | b | c | `ls` → `x` |", "| a | b | c | `aws s3api list-buckets` |"],
)
def test_row_that_cannot_be_run_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match=r"A row has 3 columns|Neither"):
        rows(row)


@pytest.mark.parametrize(
    "command", ["aws lambda get-functions", "aws lambda get-function --name x"]
)
def test_command_that_the_service_does_not_know_is_refused(command: str, session: Any) -> None:
    with pytest.raises(ValueError, match=r"has no (operation|option)"):
        parse(command, {}, session)


def test_words_become_what_the_service_takes(session: Any) -> None:
    command = parse(
        'aws ecr describe-images --repository-name "$REPOSITORY" --image-ids imageTag=1 imageTag=2'
        " --max-results 5 --output json --query 'length(imageDetails)'",
        {"REPOSITORY": "models"},
        session,
    )
    assert command.parameters == {
        "repositoryName": "models",
        "imageIds": [{"imageTag": "1"}, {"imageTag": "2"}],
        "maxResults": 5,
    }
    assert (command.query, command.reads) == ("length(imageDetails)", True)
    invoke = parse(
        "aws lambda invoke --function-name f --payload '{}' --cli-binary-format raw-in-base64-out"
        " /dev/stdout",
        {},
        session,
    )
    assert invoke.parameters == {"FunctionName": "f", "Payload": b"{}"}
    assert not invoke.reads


def _row(command: str, expected: str) -> Row:
    return Row("S3 and ECR", "a belief", "none", command, expected, "")


def test_commands_are_run_and_compared(aws: Any) -> None:
    s3 = aws.create_client("s3")
    s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    values = {"BUCKET": "models"}
    status = 'aws s3api get-bucket-versioning --bucket "$BUCKET" --query Status'
    listed = 'aws s3api list-objects-v2 --bucket "$BUCKET" --query "Contents[].Key"'
    absent = "aws lambda get-function --function-name nobody"
    for command, expected, found, ok in (
        (status, "Enabled", "null", "NO"),
        (status, "null", "null", "yes"),
        (listed, "null", "null", "yes"),
        (
            'aws s3api get-bucket-versioning --bucket "$BUCKET" --query "length(Status)"',
            "1",
            None,
            "NO",
        ),
        (absent, "ResourceNotFound*", "ResourceNotFoundException", "yes"),
        ('aws s3api list-buckets --query "Buckets[0].Name"', "$BUCKET", "models", "yes"),
    ):
        row = _row(command, expected)
        said, as_expected = outcome(row, values, aws, write=False)
        assert as_expected == ok
        assert found is None or said == found


def test_command_that_creates_something_runs_only_with_write(aws: Any) -> None:
    row = _row("aws sqs create-queue --queue-name changes --query QueueUrl", "*/changes")
    count = parse("aws sqs list-queues --query QueueUrls", {}, aws)
    assert outcome(row, {}, aws, write=False) == ("WRITE=1 runs it", "not run")
    assert run(count, aws) == "null"
    found, ok = outcome(row, {}, aws, write=True)
    assert (found.endswith("/changes"), ok) == (True, "yes")


class _Session:
    """A session whose clients answer what they are told to."""

    def __init__(self, *answers: tuple[str, str, Any]) -> None:
        session = botocore.session.get_session()
        self._clients = {
            service: session.create_client(
                service,
                "eu-west-1",
                aws_access_key_id="a",
                aws_secret_access_key="b",  # noqa: S106 - none
            )
            for service, _, _ in answers
        }
        stubbers = {service: Stubber(client) for service, client in self._clients.items()}
        for service, method, answer in answers:
            stubbers[service].add_response(method, answer)
        for stubber in stubbers.values():
            stubber.activate()

    def create_client(self, service: str) -> Any:
        return self._clients[service]

    def get_config_variable(self, name: str) -> str:
        assert name == "region"
        return "eu-west-1"


def _resource(name: str, physical: str, kind: str = "AWS::Lambda::Function") -> dict[str, Any]:
    return {
        "LogicalResourceId": name,
        "PhysicalResourceId": physical,
        "ResourceType": kind,
        "ResourceStatus": "CREATE_COMPLETE",
        "Timestamp": "2026-11-22T10:00:00Z",
    }


def test_variables_are_those_of_the_stack() -> None:
    nested = "AWS::CloudFormation::Stack"
    arns = [f"arn:aws:cloudformation:eu-west-1:123456789012:stack/shop-{n}/1" for n in ("gpu", "a")]
    root = [_resource(f"Model{n}", arn, nested) for n, arn in enumerate(arns)]
    model = [_resource("PredictFunction", "shop-MLP"), _resource("Role", "shop-MLP-Role-1")]
    outputs = {
        "ApiId": "a1b2c3",
        "ModelsBucket": "shop-models-1",
        "ReleaseQueueUrl": "https://sqs/changes",
    }
    stack = {
        "StackName": "shop",
        "CreationTime": "2026-11-22T10:00:00Z",
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": key, "OutputValue": outputs[key]} for key in outputs],
    }
    uri = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/models@sha256:0"
    session = _Session(
        *(
            ("cloudformation", "describe_stack_resources", {"StackResources": resources})
            for resources in (root, [_resource("Gpu", "gpu", nested)], model)
        ),
        ("cloudformation", "describe_stacks", {"Stacks": [stack]}),
        ("lambda", "get_function", {"Code": {"ImageUri": uri}}),
        ("sts", "get_caller_identity", {"Account": "123456789012"}),
    )
    assert variables("shop", session) == {
        "STACK": "shop",
        "REGION": "eu-west-1",
        "ACCOUNT": "123456789012",
        "API": "a1b2c3",
        "BUCKET": "shop-models-1",
        "MODEL": "MLP",
        "FUNCTION": "shop-MLP",
        "ROLE": "shop-MLP-Role-1",
        "REPOSITORY": "shop/models",
        "QUEUE": "https://sqs/changes",
        "RELEASE": "shop_release",
        "BUILD": "shop_build",
    }


def test_names_that_the_tool_assumes_are_those_of_the_templates() -> None:
    text = {name: (_ROOT / name).read_text() for name in ("template.yaml", "infra/model.yaml")}
    release = (_ROOT / "infra/release.yaml").read_text()
    assert "FunctionName: !Sub ${System}_release" in release
    assert "FunctionName: !Sub ${System}_build" in release
    assert "FunctionName: !Sub ${System}-${ModelName}" in text["infra/model.yaml"]
    for name in ("  ApiId:", "  ModelsBucket:", "  ReleaseQueueUrl:"):
        assert f"\n{name}\n" in text["template.yaml"]
    for name in ("  PredictFunction:", "  Role:"):
        assert f"\n{name}\n" in text["infra/model.yaml"]


def test_dry_run_prints_every_row_and_needs_no_account() -> None:
    said = CliRunner().invoke(main, ["shop", "--dry-run"], catch_exceptions=False)
    assert said.exit_code == 0
    cells = [line.split("│") for line in said.output.splitlines() if line.startswith("│")]
    columns = ["".join(each).replace(" ", "") for each in zip(*cells, strict=True)][1:-1]
    assert not any("$STACK" in column for column in columns)
    for row in rows(_PAGE):
        texts = (row.belief, row.expected, row.command or row.by_hand)
        for text, column in zip(texts, columns[:3], strict=True):
            filled = re.sub(r"\$(STACK|\{STACK\})", "shop", text)
            assert filled.replace(" ", "") in column


_TESTS = _ROOT / "tests"


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Those of all tests."""
    files = _TESTS.rglob("test_*.py")
    return {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}


@pytest.mark.parametrize("row", rows(_PAGE), ids=lambda row: row.belief[:40])
def test_row_names_a_test_that_is_there_or_says_why_none_is(row: Row, names: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+)`", row.stand_in))
    assert named or re.fullmatch(r"none[:;] \w.*", row.stand_in), row.stand_in
    assert named <= names
    for path in re.findall(r"`(tests/[^`]+)`", row.stand_in):
        assert (_ROOT / path).exists(), path


def test_routes_that_the_page_asks_for_are_those_of_the_template() -> None:
    template = (_ROOT / "infra/model.yaml").read_text()
    asked = [each for row in rows(_PAGE) for each in re.findall(r"RouteKey=='(.*?)'", row.command)]
    assert asked
    for route in asked:
        assert f"RouteKey: !Sub {route.replace('$MODEL', '${ModelName}')}\n" in template


def test_stack_that_is_not_there_is_reported(aws: Any) -> None:
    assert aws
    said = CliRunner().invoke(main, ["nobody"])
    assert said.exit_code == 1
    assert said.output.startswith("Error: Stack nobody cannot be read: ")
