"""A model on stand-ins for AWS, which boto3 calls; an image is only the number of its version."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import boto3

from lambda_serving.config.servable_version_policy import Latest, VersionPolicy
from lambda_serving.errors import ServingError
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.aws.deployed_model import AwsGateway
from lambda_serving.release.aws.policy_file import PolicyFile
from lambda_serving.release.aws.stack import Clients, System
from lambda_serving.release.deciding.actions import Action, Shift, Wait
from lambda_serving.release.reconcile import reconcile
from support import api_gateway, cloud
from support.aws_plane import Function, Plane, Refused
from support.cloud import SYSTEM, Cloud

__all__ = ["BASE", "LITE_BASE", "REPOSITORY", "World", "models", "run"]

REPOSITORY = "registry/models"
BASE = f"{REPOSITORY}@sha256:base"
LITE_BASE = "registry/lite@sha256:lite"
_TEMPLATE = f"{REPOSITORY}@sha256:template"
_FAULTS = {
    "broken",
    "calls",
    "deployments",
    "groups",
    "interfere",
    "looks",
    "missing_images",
    "most_aliases",
    "publish_looks",
    "ringing",
    "shows_unfit",
    "unfit",
}


class _Images:
    """Builds images that are only a version's number; building again restores a deleted one.

    `tell` is called with each version that is built, and its image.
    """

    elsewhere = False

    def __init__(self, plane: Plane) -> None:
        self.failures: dict[int, ServingError] = {}
        self.built: list[int] = []
        self.prefix = ""
        self.tell: Callable[[int, str], None] = lambda *_: None
        self._missing = plane.missing_images

    def build(self, order: Order) -> str:
        assert order.base.startswith(f"{REPOSITORY}@sha256:")
        self.built.append(order.version)
        if failure := self.failures.get(order.version):
            raise failure
        digest = f"sha256:{self.prefix}{order.version}"
        self._missing.discard(f"{REPOSITORY}@{digest}")
        self.tell(order.version, f"{REPOSITORY}@{digest}")
        return digest


def run(image: str, event: Any, _: str) -> Any:
    """A function that serves the version in its image; version 66 does not answer."""
    version = re.sub(r".*\D", "", image)
    if version == "66":
        raise RuntimeError("Could not load the SavedModel in /models/MLP/66")
    _, _, asked = event["path"].partition("/versions/")
    if asked == version:
        return {"statusCode": 200, "body": {"model_version_status": []}}
    if asked == f"{version}:predict":
        return {"statusCode": 200, "body": {"predictions": [float(version)]}}
    return {"statusCode": 404, "body": {"error": "another version"}}


class Clock:
    """The clock of this machine, put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class _Between:
    """Does something before each call to AWS of a run, in the same thread."""

    def __init__(self) -> None:
        self.do: Callable[[], None] = lambda: None

    def __call__(self, **_: object) -> None:
        self.do()


@dataclasses.dataclass
class World:
    """A stack with the model; `reported` are the failures of versions.

    Runs call `between.do()` before each call to AWS.
    """

    cloud: Cloud
    images: _Images
    function: Function
    gateway: AwsGateway
    reported: list[tuple[ServableId, str]]
    clock: Clock
    between: _Between
    name: str = "MLP"

    @property
    def plane(self) -> Plane:
        return self.cloud.plane

    @property
    def live(self) -> int:
        return self.function.aliases["live"].function_version

    @property
    def live_image(self) -> str:
        return self.function.versions[self.live].image

    @property
    def images_in_use(self) -> set[str]:
        versions = [self.function.latest, *self.function.versions.values()]
        return {each.image for each in versions}

    def push(self, version: int, content: str = "{}", **files: str) -> None:
        """Pushes a complete version."""
        for name, body in {**files, "manifest.json": content}.items():
            key = f"models/{self.name}/{version}/{name}"
            self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=key, Body=body.encode())

    def wish(self, policy: VersionPolicy, **labels: int) -> None:
        PolicyFile(f"{self.cloud.models}/{self.name}", self.cloud.s3).change(
            lambda model: dataclasses.replace(model, policy=policy, labels=labels)
        )

    def update(self, version: int) -> None:
        """Pushes a version, and gives it a label in place of the previous one's."""
        self.push(version)
        self.wish(Latest(2), **{f"new{version}": version})
        self.reconcile()

    def add_again(self) -> None:
        """Removes the model's block from the template, and adds it again later."""
        self.function = self.plane.add(self.function.name, _TEMPLATE)

    def die_at(self, operation: str, moment: str) -> list[str]:
        """Makes the next call of that operation end a run, before or after it takes effect.

        The list then has it.
        """
        told: list[str] = []

        def die(called: str, when: str) -> None:
            if (called, when) == (operation, moment):
                told.append(operation)
                self.plane.interfere = lambda *_: None
                raise Refused(400, "SomethingException", "try again")

        self.plane.interfere = die
        return told

    def refuse(self, operation: str, refusal: Refused, times: int | None = None) -> None:
        """Refuses calls of that operation, the next ones or all."""
        left = [refusal] * (times or 0)

        def refuse(called: str, when: str) -> None:
            if (called, when) == (operation, "before"):
                if times is None:
                    raise refusal
                if left:
                    raise left.pop()

        self.plane.interfere = refuse

    def ring(self, alarm: str) -> None:
        """Sets off an alarm of CloudWatch."""
        with closing(boto3.client("cloudwatch")) as alarms:
            alarms.put_metric_alarm(
                AlarmName=alarm,
                EvaluationPeriods=1,
                ComparisonOperator="GreaterThanThreshold",
                MetricName="Errors",
                Namespace="AWS/Lambda",
                Period=60,
                Statistic="Sum",
                Threshold=0,
            )
            alarms.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="test")
        self.plane.ring(alarm)

    def calm(self, alarm: str) -> None:
        """Ends an alarm."""
        with closing(boto3.client("cloudwatch")) as alarms:
            alarms.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="test")
        self.plane.ringing.discard(alarm)

    def later(self, seconds: float) -> None:
        self.clock.ahead += seconds

    def reconcile(self) -> list[Action]:
        """Takes all actions until nothing is left to do, however often Lambda needs time."""
        done: list[Action] = []
        for _ in range(40):
            if not (outcome := reconcile(self.gateway, done.append)):
                return done
            self.later(outcome.seconds or 0)
        raise AssertionError(f"no end: {done}")

    def wait(self) -> Wait:
        """What is left to wait for once Lambda has done everything that takes a moment."""
        before: Wait | None = None
        for _ in range(20):
            outcome = reconcile(self.gateway)
            assert outcome, "nothing is to be done"
            if before and outcome.what == before.what:
                return outcome
            before = outcome
        raise AssertionError(f"no end: {before}")

    def begin_shift(self) -> str:
        """Makes CodeDeploy move the first traffic from version 1 to 2; returns its deployment."""
        self.reconcile()
        self.plane.add_group(SYSTEM, self.function.name)
        self.push(2)
        done: list[Action] = []
        while (outcome := reconcile(self.gateway, done.append)) and outcome.seconds:
            pass
        assert done[-1] == Shift(2, 3)
        [shift] = self.plane.deployments
        self.plane.shift(shift, 0.1)
        return shift

    def record(self, version: int) -> dict[str, Any]:
        """A record without its times and other fields that make no difference."""
        found = self.cloud.record(self.name, version)
        told = {key: found[key] for key in ("state", "image", "warm", "error")}
        return {key: value for key, value in told.items() if value is not None}


@contextmanager
def models(moto: str) -> Iterator[Callable[[str], World]]:
    """Creates one model after the other in the same stack, each as if it were the first.

    It has no version yet. Deleted images are missing for Lambda.
    """
    plane = Plane(run=run)
    with cloud.running(plane, moto) as deployed:
        deployed.s3.put_bucket_notification_configuration(  # nobody takes messages out of the queue
            Bucket=deployed.bucket, NotificationConfiguration={}
        )
        with deployed.acting("ReleaseRole"):
            clients = Clients.connect()
        between = _Between()
        for client in (clients.api, clients.codedeploy, clients.functions, clients.s3):
            client.meta.events.register("before-call", between)
        yield lambda name: _model(name, deployed, clients, between)


def _model(name: str, deployed: Cloud, clients: Clients, between: _Between) -> World:
    between.do = lambda: None
    plane, clock = deployed.plane, Clock()
    for field in dataclasses.fields(Plane):  # so that no test's faults are the next one's
        if field.name in _FAULTS:
            value = field.default_factory() if callable(field.default_factory) else field.default
            setattr(plane, field.name, value)
    api = api_gateway.api(deployed.api_id)
    api.routes.clear()  # there is not room for all
    api.integrations.clear()
    images = _Images(plane)
    deployed.deploy_base(BASE, LITE_BASE)
    function = deployed.deploy_model(name, _TEMPLATE)
    reported: list[tuple[ServableId, str]] = []
    gateway = dataclasses.replace(
        System.of(deployed.environment).gateway(
            name, clients, lambda *told: reported.append(told), images
        ),
        releases=BucketReleases(f"{deployed.models}/{name}", clients.s3, clock),
        delete_image=lambda where, digest: plane.missing_images.add(f"{where}@{digest}"),
        clock=clock,
    )
    return World(deployed, images, function, gateway, reported, clock, between, name)
