"""The roles of releases allow what a release does, and a build only its own model."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lambda_serving.config.servable_version_policy import Latest, Specific, VersionPolicy
from lambda_serving.errors import PermissionDenied
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.aws.clients import Account
from lambda_serving.release.aws.events import Reporter
from lambda_serving.release.aws.policy_file import PolicyFile
from lambda_serving.release.build.handler import build
from lambda_serving.store.manifest import MANIFEST, Manifest
from lambda_serving.store.s3_store import S3Store
from support import cloud
from support.aws_plane import Plane
from support.cloud import SYSTEM, Cloud
from support.iam.policies import listed

_REPOSITORY = "registry/models"
_PUTS_OFF = ("sqs:ChangeMessageVisibility", "sqs:GetQueueUrl")
_NOT_SEEN_HERE = {
    "ReleaseRole": {
        "apigateway:PATCH": "mends routes that somebody changed",
        "cloudwatch:DescribeAlarms": "whether one rings before traffic shifts",
        "ecr:BatchDeleteImage": "the registry here is none of ECR's",
        "lambda:GetAlias": "where it is when a model goes back",
        "lambda:RemovePermission": "one that is not as it should be",
        "logs:CreateLogStream": "Lambda writes the logs",
        "logs:PutLogEvents": "as above",
        **dict.fromkeys(_PUTS_OFF, "a run that is put off, in the last test"),
        "sqs:DeleteMessage": "Lambda takes messages for the function, in its role",
        "sqs:GetQueueAttributes": "as above",
        "sqs:ReceiveMessage": "as above",
    },
    "BuildRole": {
        "logs:CreateLogStream": "Lambda writes the logs",
        "logs:PutLogEvents": "as above",
    },
    "ModelRole": {
        "ecr:BatchCheckLayerAvailability": "HEAD of a blob by the registry's HTTP API",
        "ecr:BatchGetImage": "GET of a manifest",
        "ecr:CompleteLayerUpload": "PUT of an upload",
        "ecr:GetAuthorizationToken": "the password for it",
        "ecr:GetDownloadUrlForLayer": "GET of a blob",
        "ecr:InitiateLayerUpload": "POST of an upload",
        "ecr:PutImage": "PUT of a manifest",
        "ecr:UploadLayerPart": "PATCH of an upload",
    },
    "BaseRole": {},
}


def _run(image: str, _: Any, __: str) -> Any:
    """The function of a model; with the image of version 6, it does not answer."""
    if image.endswith(":6"):
        raise RuntimeError("this version will not do")
    return {"statusCode": 200, "body": "{}"}


@dataclass(frozen=True, slots=True)
class _Fetching:
    """Builds as the build function does, but an image is only the digest of its version."""

    store: S3Store
    elsewhere = False

    def build(self, order: Order) -> str:
        self.store.fetch(order.servable)
        return f"sha256:{order.version}"


@pytest.fixture
def deployed(moto: str, tmp_path: Path) -> Iterator[Cloud]:
    """The model MLP. Its versions are fetched, recorded and reported in the role for one model."""
    with cloud.running(Plane(run=_run), moto) as deployed:
        deployed.hurried = True
        deployed.deploy_base(f"{_REPOSITORY}@sha256:base", "registry/lite@sha256:base")
        deployed.deploy_model("MLP", f"{_REPOSITORY}@sha256:template")

        def run(_: str, event: Any, __: str) -> None:
            order = Order.of(event)
            bucket, events = _of_model(deployed, order.name).connect("s3", "events")
            base_path = f"{deployed.models}/{order.name}"
            builder = _Fetching(S3Store({order.name: base_path}, tmp_path / "models", bucket))
            releases = BucketReleases(base_path, bucket)
            build(order, builder, releases, Reporter(SYSTEM, events))
            for client in (bucket, events):
                client.close()

        deployed.plane.add(f"{SYSTEM}_build", "build", alias=False, run=run)
        yield deployed


def _of_model(deployed: Cloud, model: str) -> Account:
    with deployed.acting("BuildRole"):
        sts = boto3.Session().client("sts")
    try:
        return Account.of_model(deployed.guard.roles["ModelRole"].arn, model, sts)
    finally:
        sts.close()


def _push(deployed: Cloud, version: int, folder: Path, content: bytes = b"") -> None:
    """Pushes a version whose file is its number, or content that its manifest does not list."""
    (folder / "saved_model.pb").write_bytes(b"%d" % version)
    files = {
        "saved_model.pb": content or b"%d" % version,
        MANIFEST: Manifest.of(folder).to_json(),
    }
    for name, body in files.items():
        key = f"models/MLP/{version}/{name}"
        deployed.s3.put_object(Bucket=deployed.bucket, Key=key, Body=body)


def _pump(deployed: Cloud, until: Callable[[], bool], seconds: float = 120) -> None:
    """Hands over messages until `until` holds: messages about unfinished work come back."""
    end, pause = monotonic() + seconds, Event()
    while not until():
        assert monotonic() < end, deployed.plane.calls
        if not deployed.pump():
            pause.wait(0.05)


def _wish(deployed: Cloud, policy: VersionPolicy, **labels: int) -> None:
    file = PolicyFile(f"{deployed.models}/MLP", deployed.s3)
    file.change(lambda model: _with(model, policy, labels))
    deployed.settle()


def _with(model: Any, policy: VersionPolicy, labels: dict[str, int]) -> Any:
    return type(model)(model.name, model.base_path, policy, labels)


def test_life_of_a_model_needs_every_permission_and_no_other(
    deployed: Cloud, tmp_path: Path
) -> None:
    folder = tmp_path / "pushed"
    folder.mkdir()

    def release(version: int, content: bytes = b"") -> None:
        _push(deployed, version, folder, content)
        deployed.settle()

    release(1)
    release(2)
    _wish(deployed, Latest(2), stable=1)  # routes for version 1 and its label
    _wish(deployed, Latest(1))  # and gone
    release(3)
    release(4)  # those before retire
    assert deployed.live("MLP") == 4
    release(5, b"not what was pushed")
    release(6)  # which _run knows to fail
    assert [deployed.record("MLP", version)["state"] for version in (5, 6)] == ["FAILED"] * 2
    deployed.plane.add_group(SYSTEM, f"{SYSTEM}-MLP")
    _push(deployed, 7, folder)
    _pump(deployed, lambda: bool(deployed.plane.deployments))
    [shift] = deployed.plane.deployments
    deployed.plane.shift(shift, 0.1)
    _wish(deployed, Specific(frozenset({4})))
    assert "StopDeployment" in deployed.plane.calls

    used: dict[str, set[str]] = {}
    for role, action, _ in deployed.guard.used:
        used.setdefault(role, set()).add(action)
    granted = {
        name: {action for statement in role.statements for action in listed(statement["Action"])}
        for name, role in deployed.guard.roles.items()
    }
    for name, actions in granted.items():
        assert sorted(actions - used.get(name, set())) == sorted(_NOT_SEEN_HERE[name]), name


_ANOTHER = "models/Other/1/saved_model.pb"


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("list_objects_v2", {"Prefix": "models/Other/"}),
        ("list_objects_v2", {"Prefix": "models/"}),
        ("list_objects_v2", {"Prefix": "models/MLPs/"}),
        ("list_objects_v2", {}),
        ("get_object", {"Key": _ANOTHER}),
        ("get_object", {"Key": "models/models.config"}),
        ("list_objects_v2", {"Prefix": "models/_releases/"}),
        ("list_objects_v2", {"Prefix": "models/_releases/Other/"}),
        ("get_object", {"Key": "models/_releases/Other/1.json"}),
        ("put_object", {"Key": "models/_releases/Other/1.json"}),
        ("put_object", {"Key": "models/MLP/1/saved_model.pb"}),
        ("put_object", {"Key": "models/models.config"}),
        ("delete_object", {"Key": "models/MLP/1/saved_model.pb"}),
    ],
)
def test_build_of_one_model_touches_no_other(
    operation: str, given: dict[str, Any], deployed: Cloud
) -> None:
    deployed.s3.put_object(Bucket=deployed.bucket, Key=_ANOTHER, Body=b"")
    [bucket] = _of_model(deployed, "MLP").connect("s3")
    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(bucket, operation)(Bucket=deployed.bucket, **given)
    bucket.close()
    deployed.guard.denied.clear()


@pytest.mark.parametrize("model", ["*", "?", "", "MLP/../Other", "${aws:PrincipalTag/model}"])
def test_name_that_is_no_models_opens_nothing_more(model: str, deployed: Cloud) -> None:
    deployed.s3.put_object(Bucket=deployed.bucket, Key=_ANOTHER, Body=b"")
    try:
        [bucket] = _of_model(deployed, model).connect("s3")
    except PermissionDenied:
        pass
    else:
        with pytest.raises(ClientError, match="AccessDenied"):
            bucket.get_object(Bucket=deployed.bucket, Key=_ANOTHER)
        bucket.close()
    deployed.guard.denied.clear()


@pytest.mark.parametrize("role", ["BuildRole", "ReleaseRole"])
def test_role_for_one_model_is_taken_for_one_by_the_build_function_alone(
    role: str, deployed: Cloud
) -> None:
    arn = deployed.guard.roles["ModelRole"].arn
    with deployed.acting(role):
        sts = boto3.Session().client("sts")
    with pytest.raises(ClientError, match="AccessDenied"):
        sts.assume_role(RoleArn=arn, RoleSessionName="all")
    sts.close()
    deployed.guard.denied.clear()


def test_build_function_itself_reads_nothing(deployed: Cloud) -> None:
    with deployed.acting("BuildRole"):
        bucket = boto3.Session().client("s3")
    with pytest.raises(ClientError, match="AccessDenied"):
        bucket.list_objects_v2(Bucket=deployed.bucket, Prefix="models/MLP/")
    bucket.close()
    deployed.guard.denied.clear()


def test_missing_permission_is_reported_and_nothing_goes_live(
    deployed: Cloud, tmp_path: Path
) -> None:
    for statement in deployed.guard.roles["ReleaseRole"].statements:
        if "lambda:PublishVersion" in statement["Action"]:
            statement["Action"].remove("lambda:PublishVersion")
    _push(deployed, 1, tmp_path)
    _pump(deployed, lambda: bool(deployed.guard.denied))
    assert json.dumps(deployed.guard.denied).count("to perform: lambda:PublishVersion on resource")
    assert deployed.live("MLP") is None
    used = {action for role, action, _ in deployed.guard.used if role == "ReleaseRole"}
    assert used.issuperset(_PUTS_OFF)
    deployed.guard.denied.clear()
    deployed.lose()
