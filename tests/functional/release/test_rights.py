"""Commands need exactly the rights in docs/release.md, and jobs exactly those of their roles."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from lambda_serving.cli.batch import batch
from lambda_serving.cli.label import label
from lambda_serving.cli.push import push
from lambda_serving.cli.reconcile import reconcile
from lambda_serving.cli.rollback import rollback
from lambda_serving.cli.set_policy import set_policy
from lambda_serving.cli.status import status
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.aws.events import Reporter
from lambda_serving.release.build.handler import build
from lambda_serving.store.s3_store import S3Store
from support import cloud, iam
from support.aws_plane import Plane
from support.cloud import ACCOUNT, REGION, SYSTEM, Cloud
from support.iam.reference import useless
from support.iam.roles import Role
from support.rights import not_needed, run_as, statements_of, take

_PAGE = Path(__file__).parents[3] / "docs/release.md"
_REPOSITORY = "registry/models"
_NOT_SEEN_HERE = frozenset(
    {
        "s3:AbortMultipartUpload",  # of an upload of several parts that fails
        "lambda:GetProvisionedConcurrencyConfig",  # where an alias has weights
        "codedeploy:GetDeployment",  # of a shift that is under way
    }
)


@pytest.fixture(autouse=True)
def _log_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores the log, which commands quiet for their process: here that of all later tests."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    log = logging.getLogger("lambda_serving")
    level = log.level
    yield
    log.setLevel(level)


class _Images:
    """Builds as the build function does, but an image is only the number of its version."""

    elsewhere = False

    def build(self, order: Order) -> str:
        return f"sha256:{order.version}"


@pytest.fixture
def deployed(moto: str) -> Iterator[Cloud]:
    """The model MLP, which answers any request."""
    plane = Plane(run=lambda *_: {"statusCode": 200, "body": "{}"})
    with cloud.running(plane, moto) as deployed:
        deployed.hurried = True
        deployed.deploy_base(f"{_REPOSITORY}@sha256:base", "registry/lite@sha256:base")
        deployed.deploy_model("MLP", f"{_REPOSITORY}@sha256:template")

        def run(_: str, event: Any, __: str) -> None:
            releases = BucketReleases(f"{deployed.models}/MLP", deployed.s3)
            build(Order.of(event), _Images(), releases, Reporter(SYSTEM, deployed.events))

        plane.add(f"{SYSTEM}_build", "build", alias=False, run=run)
        yield deployed


@pytest.fixture
def rights(deployed: Cloud) -> dict[str, list[dict[str, Any]]]:
    values = {
        "ACCOUNT": ACCOUNT,
        "API": deployed.api_id,
        "BUCKET": deployed.bucket,
        "REGION": REGION,
        "STACK": SYSTEM,
    }
    return statements_of(_PAGE.read_text(), values)


def test_commands_need_the_rights_of_the_page_and_no_others(
    models_dir: Path, tmp_path: Path, deployed: Cloud, rights: dict[str, list[dict[str, Any]]]
) -> None:
    pushing, checking, policy, back, looking, acting, reading = rights
    release = deployed.guard.roles["ReleaseRole"].statements
    for role, statements in rights.items():
        more = {back: rights[policy], acting: release, checking: rights[pushing]}.get(role, [])
        take(deployed, role, [*statements, *more])
    take(deployed, "waiting", [*rights[pushing], *rights[checking], *rights[looking]])
    base_path, stack = f"{deployed.models}/MLP", f"--stack={SYSTEM}"

    def run(role: str, command: click.Command, *arguments: str) -> None:
        run_as(deployed, role, command, *arguments)

    source = str(models_dir / "half_plus_two/123")
    run(checking, push, source, f"{base_path}/1", "--allow-signature-change")
    deployed.settle()
    run(pushing, push, source, f"{base_path}/2", "--no-check")
    deployed.settle()
    run("waiting", push, source, f"{base_path}/2", "--wait")
    run(policy, set_policy, base_path, "latest", "2")
    run(policy, label, base_path, "stable=1")
    deployed.settle()
    run(policy, rollback, base_path)
    deployed.lose()
    run(acting, reconcile, base_path, stack)
    assert deployed.live("MLP") == 1
    run(policy, set_policy, base_path, "latest", "2")
    deployed.settle()
    run(back, rollback, base_path, stack)
    deployed.settle()
    deployed.plane.add_group(SYSTEM, f"{SYSTEM}-MLP")
    run(policy, set_policy, base_path, "latest", "2")
    deployed.lose()
    run(looking, status, base_path, stack)
    run(looking, reconcile, base_path, stack, "--dry-run")
    with deployed.acting(reading):
        store = S3Store({"MLP": base_path}, tmp_path)
    assert store.versions("MLP") == [1, 2]
    assert store.fetch(ServableId("MLP", 2)).is_dir()

    for role, statements in rights.items():
        assert [each for statement in statements for each in useless(statement)] == []
        assert not_needed(deployed, role, statements, _NOT_SEEN_HERE) == []


def _role(deployed: Cloud, template: str, name: str) -> Role:
    """A role of another template than that of releases; its buckets are the models' bucket."""
    values = {
        "AWS::AccountId": ACCOUNT,
        "AWS::Region": REGION,
        "AWS::StackName": template,
        "ModelName": "MLP",
        **dict.fromkeys(("Inputs", "Models", "Outputs"), deployed.bucket),
        "Repository": "models",
    }
    role = iam.roles(template, values)[name]
    take(deployed, name, role.statements)
    return role


def _copy(deployed: Cloud, export: Path) -> None:
    """Version 1 as `aws s3 sync` copies it, without a manifest."""
    for path in filter(Path.is_file, export.rglob("*")):
        key = f"models/MLP/1/{path.relative_to(export)}"
        deployed.s3.put_object(Bucket=deployed.bucket, Key=key, Body=path.read_bytes())


def test_server_with_a_gpu_needs_what_its_role_has(
    models_dir: Path, tmp_path: Path, deployed: Cloud
) -> None:
    role = _role(deployed, "gpu", "TaskRole")
    with deployed.acting("TaskRole"):
        store = S3Store({"MLP": f"{deployed.models}/MLP"}, tmp_path)
    assert (store.versions("MLP"), store.contents("MLP")) == ([], [])
    _copy(deployed, models_dir / "half_plus_two/123")
    assert store.versions("MLP") == [1]
    assert store.fingerprint(ServableId("MLP", 1))
    assert (store.fetch(ServableId("MLP", 1)) / "saved_model.pb").is_file()
    assert not_needed(deployed, "TaskRole", role.statements) == []


def test_job_needs_what_its_role_has(models_dir: Path, deployed: Cloud) -> None:
    role = _role(deployed, "batch", "JobRole")

    def put(name: str, body: bytes) -> None:
        deployed.s3.put_object(Bucket=deployed.bucket, Key=name, Body=body)

    _copy(deployed, models_dir / "half_plus_two/123")
    bucket = f"s3://{deployed.bucket}"
    command = (f"{bucket}/models/MLP", f"--input={bucket}/inputs/**/*.jsonl")
    for name in ("a", "day/b"):  # the second run finds what the first did
        put(f"inputs/{name}.jsonl", b"1.0\n2.0\n")
        run_as(deployed, "JobRole", batch, *command, f"--output={bucket}/predictions")
    key = "predictions/day/b.jsonl.jsonl"
    answer = deployed.s3.get_object(Bucket=deployed.bucket, Key=key)["Body"].read()
    assert [json.loads(line) for line in answer.splitlines()] == [2.5, 3.0]
    assert not_needed(deployed, "JobRole", role.statements, _NOT_SEEN_HERE) == []
