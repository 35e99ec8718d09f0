"""The deployed system on this machine: what `template.yaml` makes, with stand-ins of AWS.

S3, SQS, EventBridge and API Gateway are moto's server, Lambda and CodeDeploy `aws_plane`. A change
in the bucket becomes a message by the rule of `infra/model.yaml`; the release function's handler
gets messages as Lambda's event source mapping hands them over.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import boto3
import yaml
from moto.server import ThreadedMotoServer

from aws_plane import Function, Plane, serving
from lambda_serving import building
from lambda_serving.release import worker

__all__ = ["SYSTEM", "Cloud", "moto", "running"]

SYSTEM = "system"
_MODEL_TEMPLATE = Path(__file__).parents[1] / "infra/model.yaml"
_REGION, _ACCOUNT = "eu-west-1", "123456789012"
_STACK = f"arn:aws:cloudformation:{_REGION}:{_ACCOUNT}:stack/{SYSTEM}/1"
_VISIBILITY_SECONDS, _FUNCTION_SECONDS = 20, 120


@dataclass
class Cloud:
    """A stack named `SYSTEM`; models lie in `models`, an address `s3://bucket/models`."""

    plane: Plane
    models: str
    api_id: str
    queue_url: str
    queue_arn: str
    s3: Any
    sqs: Any
    events: Any
    api: Any
    handler: worker.Worker | None = None

    @property
    def bucket(self) -> str:
        return self.models.split("/")[2]

    @property
    def environment(self) -> dict[str, str]:
        """The release function's."""
        return {"SYSTEM": SYSTEM, "MODELS": self.models, "API_ID": self.api_id}

    def deploy_base(self, image: str) -> None:
        """The image without a model, `REPOSITORY@DIGEST`."""
        self.plane.add(f"{SYSTEM}_base", image, alias=False)

    def deploy_build(self) -> None:
        """The build function, which runs its handler here."""
        handler = building.start(self.environment)
        self.plane.add(
            f"{SYSTEM}_build", "build", alias=False, run=lambda _, event, __: handler(event, None)
        )

    def deploy_model(self, name: str, image: str) -> Function:
        """A model's stack: function, routes and the rule for its changes."""
        function = self.plane.add(f"{SYSTEM}-{name}", image)
        integration = self.api.create_integration(
            ApiId=self.api_id,
            IntegrationType="AWS_PROXY",
            IntegrationUri=function.arn("live"),
            PayloadFormatVersion="2.0",
        )["IntegrationId"]
        path = f"/v1/models/{name}"
        posts = [f"POST {path}:{verb}" for verb in ("predict", "classify", "regress")]
        for key in (*posts, f"GET {path}", f"ANY {path}/{{proxy+}}"):
            self.api.create_route(
                ApiId=self.api_id,
                RouteKey=key,
                Target=f"integrations/{integration}",
                AuthorizationType="AWS_IAM",
            )
        rule = _rule(name, self.bucket)
        pattern = json.dumps(rule["EventPattern"])
        self.events.put_rule(Name=rule["Name"], EventPattern=pattern, State="ENABLED")
        group = rule["Targets"][0]["SqsParameters"]
        target = {"Id": "release", "Arn": self.queue_arn, "SqsParameters": group}
        self.events.put_targets(Rule=rule["Name"], Targets=[target])
        return function

    def repair(self, name: str) -> None:
        """What the schedule does once an hour."""
        self.sqs.send_message(
            QueueUrl=self.queue_url,
            MessageBody=json.dumps({"id": str(uuid4()), "source": "aws.events"}),
            MessageGroupId=name,
        )

    def pump(self) -> bool:
        """One batch of messages to the function; whether there was any."""
        batch = self.sqs.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=10,
            AttributeNames=["All"],
            VisibilityTimeout=_VISIBILITY_SECONDS,
        ).get("Messages", [])
        if not batch:
            return False
        records = [
            {
                "messageId": each["MessageId"],
                "receiptHandle": each["ReceiptHandle"],
                "body": each["Body"],
                "attributes": each["Attributes"],
                "eventSourceARN": self.queue_arn,
            }
            for each in batch
        ]
        end = monotonic() + _FUNCTION_SECONDS
        context = SimpleNamespace(
            get_remaining_time_in_millis=lambda: int(1000 * (end - monotonic()))
        )
        if self.handler is None:
            self.handler = worker.start(self.environment)
        failed = self.handler({"Records": records}, context)["batchItemFailures"]
        kept = {each["itemIdentifier"] for each in failed}
        for record in records:
            if record["messageId"] not in kept:
                self.sqs.delete_message(
                    QueueUrl=self.queue_url, ReceiptHandle=record["receiptHandle"]
                )
        return True

    def settle(self, until: Callable[[], bool] = lambda: True, seconds: float = 120) -> None:
        """Hands over messages until there are none, nothing is built, and `until` holds."""
        end, pause = monotonic() + seconds, threading.Event()
        while self.pump() or self.waiting() or not until():
            if monotonic() > end:
                raise AssertionError(f"{self.waiting()} messages are left, until is {until()}")
            pause.wait(0.05)

    def waiting(self) -> int:
        """Messages that are in the queue, seen or not, and builds under way."""
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])
        counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        messages = sum(int(found["Attributes"][name]) for name in counts)
        return messages + sum(each.is_alive() for each in self.plane.background)

    def record(self, model: str, version: int) -> Any:
        """The release record of a version, as the document that it is."""
        key = f"models/_releases/{model}/{version}.json"
        return json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())


@contextmanager
def moto() -> Iterator[str]:
    """The endpoint of moto's server, for as many stacks as one likes, one after the other."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def running(plane: Plane, moto: str) -> Iterator[Cloud]:
    """A stack without models; processes that are started meanwhile find it, too."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(serving(plane))
        stack.enter_context(
            _environment(
                AWS_ACCESS_KEY_ID="test",
                AWS_SECRET_ACCESS_KEY="test",  # noqa: S106 nobody checks it
                AWS_DEFAULT_REGION=_REGION,
                AWS_CONFIG_FILE=os.devnull,
                AWS_ENDPOINT_URL=moto,
                AWS_ENDPOINT_URL_CODEDEPLOY=endpoint,
                AWS_ENDPOINT_URL_LAMBDA=endpoint,
            )
        )
        s3, sqs, events, api = (
            stack.enter_context(_client(name)) for name in ("s3", "sqs", "events", "apigatewayv2")
        )
        bucket = f"models-{uuid4()}"
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": _REGION})
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        queue = f"{uuid4()}.fifo"
        url = sqs.create_queue(
            QueueName=queue,
            Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
        )["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        api_id = api.create_api(Name=SYSTEM, ProtocolType="HTTP")["ApiId"]
        deployed = Cloud(
            plane, f"s3://{bucket}/models", api_id, url, arn["QueueArn"], s3, sqs, events, api
        )
        plane.add(f"{SYSTEM}_release", "zip", alias=False, environment=deployed.environment)
        yield deployed


@contextmanager
def _client(name: Any) -> Iterator[Any]:
    client = boto3.client(name)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    """These settings of AWS and no others."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _rule(model: str, bucket: str) -> Any:
    """The rule of the template, with its parameters filled in."""
    parameters = {
        "ModelName": model,
        "System": SYSTEM,
        "SystemId": _STACK,
        "Models": bucket,
    }
    loader = type("Loader", (yaml.SafeLoader,), {})

    def fill(_: Any, suffix: str, node: Any) -> Any:
        if suffix == "Ref":
            return parameters.get(node.value, node.value)
        if suffix == "Sub" and isinstance(node, yaml.ScalarNode):
            return re.sub(r"\$\{(\w+)\}", lambda found: parameters.get(found[1], "?"), node.value)
        return None

    loader.add_multi_constructor("!", fill)  # type: ignore[attr-defined]
    template = yaml.load(_MODEL_TEMPLATE.read_text(), loader)  # noqa: S506 a SafeLoader
    return template["Resources"]["Changes"]["Properties"]
