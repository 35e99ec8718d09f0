"""The deployed system on this machine: what `template.yaml` creates, with stand-ins for AWS.

S3, SQS, EventBridge and API Gateway are moto's server, API Gateway with the rules of
`api_gateway`; Lambda and CodeDeploy are `aws_plane`. Routes, the rule that makes a change in the
bucket a message, and the queues are those of `infra/*.yaml`; the release function's handler gets
messages as Lambda's event source mapping hands them over. The functions of releases have the roles
of `infra/release.yaml`: anything else is refused, and reported at the end.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, Literal
from uuid import uuid4

import boto3
import yaml
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from lambda_serving.errors import ServingError
from lambda_serving.release import handler as release_handler
from lambda_serving.release.build import handler as build_handler
from lambda_serving.release.deciding.model_state import Origin
from support import api_gateway, iam
from support.aws_plane import Function, Plane, Refused, serving
from support.iam.requests import of_codedeploy, of_lambda
from support.without_sockets import answering, of_wsgi

__all__ = [
    "ACCOUNT",
    "ISSUER",
    "REGION",
    "SYSTEM",
    "Access",
    "Cloud",
    "moto",
    "moto_server",
    "running",
]

Access = Literal["IAM", "JWT", "OPEN"]
ISSUER = "https://issuer.example"
"""The issuer of the tokens that an API with the access JWT accepts; their audience is `SYSTEM`."""
SYSTEM = "system"
_INFRA = Path(__file__).parents[2] / "infra"
REGION, ACCOUNT = "eu-west-1", "123456789012"
_PLACE = f"{REGION}:{ACCOUNT}"
_STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{SYSTEM}/1"
_FUNCTION_SECONDS = 120
_KEY = "test"
_SECRET = "test"  # noqa: S105 of all access keys
_RETRIES = 2  # Lambda's attempts at an asynchronous invocation


@dataclass
class Cloud:
    """A stack named `SYSTEM`; models lie in `models`, an address `s3://bucket/models`.

    The release function is `handler`; its messages are invisible while it is at them for as long as
    the template says, or for `visibility_seconds`. Those that it puts off are handed over at once
    if time is `hurried`. `build_errors` are what the build function raised. `guard` knows
    what roles used and what they were denied, which fails the test at its end unless it is cleared.
    Whoever calls with another access key may do everything.
    """

    plane: Plane
    models: str
    api_id: str
    queue_url: str
    queue_arn: str
    s3: Any
    sqs: Any
    events: Any
    api: Any
    guard: iam.Guard
    access: Access = "IAM"
    authorizer: str = ""
    handler: Callable[[Any, Any], Any] | None = None
    visibility_seconds: int | None = None
    hurried: bool = False
    build_errors: list[Exception] = field(default_factory=list)

    @property
    def bucket(self) -> str:
        return self.models.split("/")[2]

    @property
    def environment(self) -> dict[str, str]:
        """The release function's."""
        told = {"SYSTEM": SYSTEM, "MODELS": self.models, "API_ID": self.api_id}
        lite = f"{SYSTEM}_base_lite"
        return told | ({"LITE_BASE": lite} if lite in self.plane.functions else {})

    def deploy_base(self, image: str, lite: str = "") -> None:
        """The images without a model, each `REPOSITORY@DIGEST`; older stacks have no `lite` one."""
        self.plane.add(f"{SYSTEM}_base", image, alias=False)
        if lite:
            self.plane.add(f"{SYSTEM}_base_lite", lite, alias=False)
            self.plane.functions[f"{SYSTEM}_release"].latest.environment = self.environment
            self.handler = None  # which has the environment that it started with

    def deploy_build(self, runtime: str = "tensorflow") -> None:
        """The build function, which runs its handler here, and again when it fails.

        It compiles for one runtime, as that is quicker than for both.
        """
        own = {"MODEL_ROLE": self.guard.roles["ModelRole"].arn, "RUNTIME": runtime}
        with self.acting("BuildRole"):
            handler = build_handler.start(self.environment | own)
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: 900_000)

        def run(_: str, event: Any, __: str) -> None:
            for _attempt in range(1 + _RETRIES):
                try:
                    handler(event, context)
                except ServingError as error:
                    self.build_errors.append(error)
                else:
                    return

        self.plane.add(f"{SYSTEM}_build", "build", alias=False, run=run)

    def deploy_model(self, name: str, image: str) -> Function:
        """Deploys a model's stack: function, routes and the rule for its changes."""
        function = self.plane.add(f"{SYSTEM}-{name}", image)
        integration = self.api.create_integration(
            ApiId=self.api_id,
            IntegrationType="AWS_PROXY",
            IntegrationUri=function.arn("live"),
            PayloadFormatVersion="2.0",
        )["IntegrationId"]
        template = _resources(
            "model", ModelName=name, System=SYSTEM, SystemId=_STACK, Models=self.bucket
        )
        told = self._authorization()
        for key in _of_type(template, "AWS::ApiGatewayV2::Route", "RouteKey"):
            api_gateway.api(self.api_id).create_route(
                api_key_required=False,
                authorization_scopes=[],
                route_key=key,
                target=f"integrations/{integration}",
                authorization_type=told["AuthorizationType"],
                authorizer_id=told.get("AuthorizerId"),
            )
        rule = template["Changes"]["Properties"]
        pattern = json.dumps(rule["EventPattern"])
        self.events.put_rule(Name=rule["Name"], EventPattern=pattern, State="ENABLED")
        group = rule["Targets"][0]["SqsParameters"]
        target = {"Id": "release", "Arn": self.queue_arn, "SqsParameters": group}
        self.events.put_targets(Rule=rule["Name"], Targets=[target])
        return function

    def change_access(self, access: Access) -> None:
        """Changes the parameter, and the template's own routes as CloudFormation does."""
        self.access = access
        for route in self.routes():
            if not re.search("/(versions|labels)/", route["RouteKey"]):
                wanted = {"AuthorizerId": "", "AuthorizationScopes": [], **self._authorization()}
                self.api.update_route(ApiId=self.api_id, RouteId=route["RouteId"], **wanted)

    def routes(self) -> list[Any]:
        """All routes of the API."""
        pages = self.api.get_paginator("get_routes").paginate(ApiId=self.api_id)
        return [route for page in pages for route in page["Items"]]

    def _authorization(self) -> dict[str, Any]:
        if self.access != "JWT":
            return {"AuthorizationType": "AWS_IAM" if self.access == "IAM" else "NONE"}
        self.authorizer = (
            self.authorizer
            or self.api.create_authorizer(
                ApiId=self.api_id,
                Name="jwt",
                AuthorizerType="JWT",
                IdentitySource=["$request.header.Authorization"],
                JwtConfiguration={"Issuer": ISSUER, "Audience": [SYSTEM]},
            )["AuthorizerId"]
        )
        return {"AuthorizationType": "JWT", "AuthorizerId": self.authorizer}

    def repair(self, name: str) -> None:
        """Does what the schedule does once an hour."""
        self.sqs.send_message(
            QueueUrl=self.queue_url,
            MessageBody=json.dumps({"id": str(uuid4()), "source": "aws.events"}),
            MessageGroupId=name,
        )

    def secret_of(self, key: str) -> str | None:
        """The secret of an access key; None for a key that nobody has."""
        return _SECRET if key == _KEY or self.guard.knows(key) else None

    @contextmanager
    def acting(self, role: str) -> Iterator[None]:
        """Makes clients of boto3 that are created in the block call AWS in that role."""
        before = os.environ["AWS_ACCESS_KEY_ID"]
        os.environ["AWS_ACCESS_KEY_ID"] = self.guard.key(role)
        try:
            yield
        finally:
            os.environ["AWS_ACCESS_KEY_ID"] = before

    def pump(self) -> bool:
        """Hands one batch of messages to the function; whether there was one."""
        batch = self._receive()
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
        failed = self.call({"Records": records})["batchItemFailures"]
        kept = {each["itemIdentifier"] for each in failed}
        for record in records:
            if record["messageId"] not in kept:
                self._delete(record["receiptHandle"])
            elif self.hurried:
                self.sqs.change_message_visibility(
                    QueueUrl=self.queue_url,
                    ReceiptHandle=record["receiptHandle"],
                    VisibilityTimeout=0,
                )
        return True

    def call(self, event: Any) -> Any:
        """The release function's answer to an event."""
        end = monotonic() + _FUNCTION_SECONDS
        context = SimpleNamespace(
            get_remaining_time_in_millis=lambda: int(1000 * (end - monotonic()))
        )
        if self.handler is None:
            with self.acting("ReleaseRole"):
                self.handler = release_handler.start(self.environment)
        return self.handler(event, context)

    def lose(self, seconds: float = 1200) -> list[str]:
        """Removes all messages from the queue, also those not yet visible; returns their bodies."""
        bodies, end, pause = list[str](), monotonic() + seconds, threading.Event()
        while self.waiting():
            assert monotonic() < end, f"{self.waiting()} messages are left"
            for each in self._receive():
                bodies.append(each["Body"])
                self._delete(each["ReceiptHandle"])
            pause.wait(0.05)
        return bodies

    @contextmanager
    def pumping(self) -> Iterator[None]:
        """Delivers messages in a background thread as they arrive."""
        stopped = threading.Event()

        def pump() -> None:
            while not stopped.is_set():
                if not self.pump():
                    stopped.wait(0.05)

        with ThreadPoolExecutor(1) as pool:
            pumped = pool.submit(pump)
            try:
                yield
            finally:
                stopped.set()
        pumped.result()

    def settle(self, until: Callable[[], bool] = lambda: True, seconds: float = 1200) -> None:
        """Hands over messages until there are none, nothing is built, and `until` holds."""
        end, pause = monotonic() + seconds, threading.Event()
        while self.pump() or self.waiting() or not until():
            if monotonic() > end:
                raise AssertionError(f"{self.waiting()} messages are left, until is {until()}")
            pause.wait(0.05)

    def waiting(self) -> int:
        """The number of messages in the queue, visible or not, and of builds under way."""
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])
        counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        messages = sum(int(found["Attributes"][name]) for name in counts)
        return messages + sum(each.is_alive() for each in self.plane.background)

    def live(self, model: str) -> int | None:
        """The model version that the alias `live` points to, None for the template's."""
        function = self.plane.functions[f"{SYSTEM}-{model}"]
        with self.plane.lock:
            number = function.aliases["live"].function_version
            origin = Origin.of(function.versions[number].description)
        return origin.model_version if origin else None

    def record(self, model: str, version: int) -> Any:
        """The release record of a version, as a document."""
        key = f"models/_releases/{model}/{version}.json"
        return json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def _receive(self) -> Any:
        seconds = self.visibility_seconds
        return self.sqs.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=10,
            AttributeNames=["All"],
            **({} if seconds is None else {"VisibilityTimeout": seconds}),
        ).get("Messages", [])

    def _delete(self, receipt: str) -> None:
        self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=receipt)


_guards: list[iam.Guard] = []
"""The guards of the stacks that exist now."""


class _Dispatcher(DomainDispatcherApplication):
    """Searches moto's folders once for each host, not for each request."""

    def __init__(self, create_app: Any) -> None:
        super().__init__(create_app)
        self.get_backend_for_host = cache(super().get_backend_for_host)  # type: ignore[method-assign]


class _Quiet(MotoRequestHandler):
    def log(self, *_: object) -> None:
        """Logs nothing: a line for each request takes time, and nobody reads it."""


@contextmanager
def moto() -> Iterator[str]:
    """The endpoint of moto's server, for any number of stacks, one after the other."""
    application = iam.guarded(
        _conditions_hold(api_gateway.Kept(_Dispatcher(create_backend_app))), _guards
    )
    with moto_server(application) as endpoint, answering(endpoint, of_wsgi(application)):
        yield endpoint


@contextmanager
def moto_server(application: Any = None) -> Iterator[str]:
    """The endpoint of moto's server, or of an application built on it; over HTTP only."""
    application = application or _Dispatcher(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _conditions_hold(app: Any) -> Any:
    """Makes the second of two conditional writes at once see the first, as in S3."""
    lock = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.keys().isdisjoint({"HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"}):
            return app(environ, start_response)
        with lock:
            return app(environ, start_response)

    return answer


@contextmanager
def running(
    plane: Plane, moto: str, *, access: Access = "IAM", cors: tuple[str, ...] = ()
) -> Iterator[Cloud]:
    """A stack without models; processes that are started meanwhile find it, too.

    `cors` are the origins whose pages may call the API.
    """
    with ExitStack() as stack:
        endpoint = stack.enter_context(serving(plane))
        stack.enter_context(
            _environment(
                AWS_ACCESS_KEY_ID=_KEY,
                AWS_SECRET_ACCESS_KEY=_SECRET,
                AWS_DEFAULT_REGION=REGION,
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
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": _bucket_tags()})
        url, arn = _queues(sqs)
        rules = {**_cors(), "AllowOrigins": [*cors]}
        api_id = api.create_api(
            Name=SYSTEM, ProtocolType="HTTP", **({"CorsConfiguration": rules} if cors else {})
        )["ApiId"]
        api_gateway.register(api_id, plane)
        guard = _guard(bucket, api_id, arn)
        models = f"s3://{bucket}/models"
        deployed = Cloud(plane, models, api_id, url, arn, s3, sqs, events, api, guard, access)
        plane.add(
            f"{SYSTEM}_release",
            "zip",
            alias=False,
            environment=deployed.environment,
            run=lambda _, event, __: deployed.call(event),
        )
        plane.authorize = partial(_authorize, plane, guard)
        _guards.append(guard)
        try:
            yield deployed
        finally:
            _guards.remove(guard)
    assert not guard.denied, guard.denied


def _cors() -> dict[str, Any]:
    """The CORS configuration of `infra/system.yaml`."""
    api = iam.loaded(_INFRA / "system.yaml")["Resources"]["Api"]
    _, rules, _ = api["Properties"]["CorsConfiguration"]["Fn::If"]
    return dict(rules)


def _bucket_tags() -> list[Any]:
    """The tags of the bucket in `infra/system.yaml`."""
    bucket = iam.loaded(_INFRA / "system.yaml")["Resources"]["Models"]["Properties"]
    names = {"System": SYSTEM}
    return [{"Key": tag["Key"], "Value": names[tag["Value"]["Ref"]]} for tag in bucket["Tags"]]


def _guard(bucket: str, api_id: str, queue_arn: str) -> iam.Guard:
    values = {
        "AWS::AccountId": ACCOUNT,
        "AWS::Region": REGION,
        "AWS::StackName": f"{SYSTEM}-System-Release",
        "ApiId": api_id,
        "Changes.Arn": queue_arn,
        "Models": bucket,
        "System": SYSTEM,
    }
    return iam.Guard(iam.roles("release", values), ACCOUNT, _tags)


def _tags(arn: str) -> dict[str, str]:
    """The tags that the template gives to functions of models, and SAM to its repositories."""
    if arn.startswith(f"arn:aws:ecr:{_PLACE}:repository/"):
        return {"AwsSamCliCompanionStack": f"{SYSTEM}-0123abcd-CompanionStack"}
    of_model = arn.startswith(f"arn:aws:lambda:{_PLACE}:function:{SYSTEM}-")
    return {"lambda-serving": SYSTEM} if of_model else {}


def _authorize(
    plane: Plane, guard: iam.Guard, header: str, service: str, operation: str, given: Any
) -> None:
    """Refuses a call to Lambda or CodeDeploy that the caller's role does not allow."""
    if service == "lambda":
        asks = of_lambda(operation, given, _PLACE)
    else:
        groups = {name: each.group for name, each in plane.deployments.items()}
        asks = of_codedeploy(operation, given, _PLACE, groups)
    if said := guard.refusal(iam.key_of(header), asks):
        raise Refused(403, "AccessDeniedException", said)


def _queues(sqs: Any) -> tuple[str, str]:
    """URL and ARN of the queue of changes, whose dead letters go to another queue."""
    template = _resources("release", System=SYSTEM)
    changes, unreleased = (dict(template[name]["Properties"]) for name in ("Changes", "Unreleased"))
    _, given_up = _queue(sqs, unreleased)
    return _queue(
        sqs,
        {**changes, "RedrivePolicy": {**changes["RedrivePolicy"], "deadLetterTargetArn": given_up}},
    )


def _queue(sqs: Any, properties: Mapping[str, Any]) -> tuple[str, str]:
    told = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in properties.items()
    }
    url = sqs.create_queue(QueueName=f"{uuid4()}.fifo", Attributes=told)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, found["Attributes"]["QueueArn"]


@contextmanager
def _client(name: Any) -> Iterator[Any]:
    client = boto3.client(name)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    """Sets these AWS environment variables, and removes all others."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _resources(template: str, **parameters: str) -> Any:
    """The resources of a template, with its parameters filled in as far as names need it."""
    loader = type("Loader", (yaml.CSafeLoader,), {})

    def fill(_: Any, suffix: str, node: Any) -> Any:
        if suffix == "Ref":
            return parameters.get(node.value, node.value)
        if suffix == "Sub" and isinstance(node, yaml.ScalarNode):
            return re.sub(r"\$\{(\w+)\}", lambda found: parameters.get(found[1], "?"), node.value)
        return None

    loader.add_multi_constructor("!", fill)  # type: ignore[attr-defined]
    text = (_INFRA / f"{template}.yaml").read_text()
    return yaml.load(text, loader)["Resources"]  # noqa: S506 a SafeLoader


def _of_type(resources: Mapping[str, Any], kind: str, name: str) -> list[Any]:
    """One property of all resources of a type."""
    return [each["Properties"][name] for each in resources.values() if each["Type"] == kind]
