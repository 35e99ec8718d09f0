"""A deployed project: stacks in a stand-in for CloudFormation, and what `support.cloud` has."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.cloudwatch.models import MetricDatum, Statistics, cloudwatch_backends
from moto.logs.models import logs_backends

from support import cloud, cloudformation, iam
from support.aws_plane import Plane
from support.cloud import ACCOUNT, REGION, SYSTEM, Cloud
from support.cloudformation import CloudFormation, Resource, Stack
from support.iam.requests import Ask

__all__ = ["API", "COMPANION", "MODELS", "REPOSITORY", "Deployed", "make_project", "running", "url"]

MODELS = ("CNN", "MLP")
COMPANION = f"{SYSTEM}-54b53072-CompanionStack"  # as SAM names it
REPOSITORY = f"{SYSTEM}54b53072/release1234repo"
API = "api1"


def url(model: str) -> str:
    """The predict URL in the outputs of a model's stack."""
    return f"https://{API}.execute-api.{REGION}.amazonaws.com/v1/models/{model}:predict"


@dataclass
class Deployed:
    """What is deployed, and clients of the services that only commands use."""

    cloud: Cloud
    stacks: CloudFormation
    root: Stack
    logs: Any
    cloudwatch: Any
    ecr: Any

    def log(self, group: str, *messages: tuple[int, str]) -> None:
        """Writes lines, each with its time in milliseconds."""
        events = [{"timestamp": time, "message": message} for time, message in messages]
        self.logs.put_log_events(logGroupName=group, logStreamName="1", logEvents=events)

    def count(self, namespace: str, metric: str, value: float, **dimensions: str) -> None:
        """Puts a value of a metric, now."""
        named = [{"Name": name, "Value": each} for name, each in dimensions.items()]
        data = {"MetricName": metric, "Dimensions": named, "Value": value}
        self.cloudwatch.put_metric_data(Namespace=namespace, MetricData=[data])


@contextmanager
def running(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    """The stack `SYSTEM` with two models, and the stack of its images; `moto` is its endpoint."""
    with cloud.running(Plane(run=lambda *_: {}), moto) as around:
        logs, cloudwatch = _client("logs"), _client("cloudwatch")
        ecr = _client("ecr")
        stacks = CloudFormation()
        stacks.authorize = lambda header, action, arn: around.guard.refusal(
            iam.key_of(header), [Ask(f"cloudformation:{action}", arn)]
        )
        root = _deploy(stacks, around)
        groups = [
            each.id
            for stack in stacks.stacks
            for each in stack.resources.values()
            if each.kind == "AWS::Logs::LogGroup"
        ]
        for group in groups:
            logs.create_log_group(logGroupName=group)
            logs.create_log_stream(logGroupName=group, logStreamName="1")
        ecr.create_repository(repositoryName=REPOSITORY)
        try:
            monkeypatch.setattr(Statistics, "get_statistics_for_type", _statistic)
            with cloudformation.running(stacks, monkeypatch):
                yield Deployed(around, stacks, root, logs, cloudwatch, ecr)
        finally:
            with suppress(ecr.exceptions.RepositoryNotFoundException):
                ecr.delete_repository(repositoryName=REPOSITORY, force=True)
            _clear()


def _client(service: Any) -> Any:
    return boto3.client(service)


def _deploy(stacks: CloudFormation, around: Cloud) -> Stack:
    for name in (*(f"{SYSTEM}-{model}" for model in MODELS), f"{SYSTEM}_build"):
        around.plane.add(name, "image", alias=False)
    release = Stack(f"{SYSTEM}-Release-1A", {**_function("_release"), **_function("_build")})
    models = {
        model: Stack(
            f"{SYSTEM}-{model}-1A",
            _function(f"-{model}"),
            {"ModelName": model},
            {"PredictUrl": url(model)},
        )
        for model in MODELS
    }
    system = Stack(
        f"{SYSTEM}-System-1A",
        {
            "Api": Resource("AWS::ApiGatewayV2::Api", API),
            "AccessLogs": _group(f"/aws/vendedlogs/{SYSTEM}/access"),
            "Models": Resource("AWS::S3::Bucket", around.bucket, retained=True),
            "ServerErrors": Resource("AWS::CloudWatch::Alarm", "errors"),
            "SlowAnswers": Resource("AWS::CloudWatch::Alarm", "slow"),
            "Dashboard": Resource("AWS::CloudWatch::Dashboard", "dashboard"),
        },
        {"Access": "OPEN"},
    )
    stacks.add(system, Release=release)
    repository = Resource("AWS::ECR::Repository", REPOSITORY)
    stacks.add(Stack(COMPANION, {"Repository": repository}))
    outputs = {"DashboardUrl": "https://dashboard.example", "MLPPredictUrl": url("MLP")}
    return stacks.add(Stack(SYSTEM, {}, outputs=outputs), System=system, **models)


def _function(end: str) -> dict[str, Resource]:
    """A function of this name after the system's, and its log group."""
    name = f"{SYSTEM}{end}"
    return {
        f"Function{end}": Resource("AWS::Lambda::Function", name),
        f"Logs{end}": _group(f"/aws/lambda/{name}"),
    }


def _group(name: str) -> Resource:
    return Resource("AWS::Logs::LogGroup", name)


def make_project(folder: Path, config: str) -> None:
    """A project, as far as commands look at it, with that samconfig.toml."""
    (folder / "infra").mkdir(parents=True)
    (folder / "infra/version").touch()
    (folder / "template.yaml").write_text("Resources: {}\n")
    (folder / "samconfig.toml").write_text(config)


def _statistic(found: Statistics, name: str) -> float:
    """As moto, which lacks percentiles."""
    values = [each.value for each in found.metric_data if isinstance(each, MetricDatum)]
    return sum(values) if name == "Sum" else float(np.percentile(values, float(name[1:])))


def _clear() -> None:
    """Empties the services of moto that stacks of other tests do not use; it outlives the test."""
    for backends in (cloudwatch_backends, logs_backends):
        backends[ACCOUNT][REGION].reset()
