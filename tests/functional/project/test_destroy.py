"""`destroy` removes what is deployed, and nothing that it was not told to."""

import json
import subprocess
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from lambda_serving.cli.destroy import destroy
from lambda_serving.errors import FailedPrecondition, InvalidArgument, NotFound
from lambda_serving.project.deployed.removal import Clients, Removal, companion_name, plan
from support import commands
from support.cloud import SYSTEM
from support.cloudformation import Resource, Stack
from support.deployed_project import COMPANION, REPOSITORY, Deployed

_SAM_PYTHON = Path(__file__).parents[3] / ".venv-sam/bin/python"
_STACK = f"--stack={SYSTEM}"


def _destroy(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    return commands.run(destroy, [_STACK, *arguments], {}, stdin)


def _statuses(deployed: Deployed) -> dict[str, str]:
    return {each.name: each.status for each in deployed.stacks.stacks}


def _keep(deployed: Deployed) -> None:
    """Puts two versions of an object into the bucket, and deletes another."""
    s3, bucket = deployed.cloud.s3, deployed.cloud.bucket
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("models/MLP/1/saved_model.pb", "models/MLP/1/saved_model.pb", "gone"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.delete_object(Bucket=bucket, Key="gone")


def _has_bucket(deployed: Deployed) -> bool:
    try:
        deployed.cloud.s3.head_bucket(Bucket=deployed.cloud.bucket)
    except ClientError:
        return False
    return True


def _images(deployed: Deployed) -> list[str]:
    found = deployed.ecr.describe_repositories()["repositories"]
    return [each["repositoryName"] for each in found if each["repositoryName"] == REPOSITORY]


def test_all_but_the_models_is_removed_once_the_name_is_typed(deployed: Deployed) -> None:
    _keep(deployed)
    code, said, _ = _destroy(stdin=f"{SYSTEM}\n")
    assert code == 0
    assert set(_statuses(deployed).values()) == {"DELETE_COMPLETE"}
    assert _images(deployed) == []
    assert deployed.logs.describe_log_groups()["logGroups"] == []
    assert "   4 AWS::Lambda::Function" in said
    assert f"Images: repository {REPOSITORY}" in said
    assert f"Models: bucket {deployed.cloud.bucket} stays" in said
    assert f"lambda-serving destroy --stack {SYSTEM} --models" in said
    assert _has_bucket(deployed)


@pytest.mark.parametrize("typed", ["", "yes\n", "System\n"])
def test_another_name_removes_nothing(deployed: Deployed, typed: str) -> None:
    before = _statuses(deployed)
    code, _, _ = _destroy("--models", stdin=typed)
    assert code == 1
    assert _statuses(deployed) == before
    assert _has_bucket(deployed)


def test_dry_run_only_looks(deployed: Deployed) -> None:
    before = _statuses(deployed)
    code, said, _ = _destroy("--dry-run", "--json", "--yes", "--models")
    assert code == 0
    found = json.loads(said)
    assert found["repositories"] == [REPOSITORY]
    assert found["buckets"] == [deployed.cloud.bucket]
    assert found["resources"]["AWS::Lambda::Function"] == 4
    assert f"/aws/lambda/{SYSTEM}_release" in found["log_groups"]
    assert _statuses(deployed) == before


def test_models_are_deleted_with_all_versions_if_that_is_asked_for(deployed: Deployed) -> None:
    _keep(deployed)
    code, said, _ = _destroy("--yes", "--models")
    assert code == 0
    assert f"Bucket {deployed.cloud.bucket} is deleted" in said
    assert not _has_bucket(deployed)


def test_models_can_be_deleted_after_the_stack(deployed: Deployed) -> None:
    _keep(deployed)
    assert _destroy("--yes")[0] == 0
    code, said, _ = _destroy("--yes", "--models")
    assert code == 0
    assert f"Stack {SYSTEM}, which is deleted already" in said
    assert not _has_bucket(deployed)
    code, said, _ = _destroy("--yes", "--models")
    assert code == 0  # nothing is left
    assert "Bucket" not in said


def test_deletion_that_fails_names_what_hinders_it_and_can_be_repeated(
    deployed: Deployed,
) -> None:
    clients = _clients(deployed)
    [system] = [each for each in deployed.stacks.stacks if "System" in each.name]
    system.resources["Held"] = held = Resource("AWS::EC2::VPC", "vpc", stuck="It is in use")
    code, _, reason = _destroy("--yes", "--models")
    assert code == 1
    assert f"Stack {SYSTEM} could not be deleted: " in reason
    assert "Held: It is in use" in reason
    assert _has_bucket(deployed)
    assert _statuses(deployed)[COMPANION] == "UPDATE_COMPLETE"
    held.stuck = ""
    Removal(plan(SYSTEM, clients), clients, lambda _: None).stack(lambda _: None)
    assert _statuses(deployed)[SYSTEM] == "DELETE_COMPLETE"


def test_deletion_is_waited_for_and_tells_how_far_it_is(deployed: Deployed) -> None:
    clients, told, waited = _clients(deployed), list[str](), list[float]()
    deployed.root.looks = 3
    Removal(plan(SYSTEM, clients), clients, waited.append).stack(told.append)
    assert told == [f"{SYSTEM} is DELETE_IN_PROGRESS"] * 2
    assert len(waited) == 2


def test_objects_that_cannot_be_deleted_are_named(deployed: Deployed) -> None:
    clients = _clients(deployed)
    removal, bucket = Removal(plan(SYSTEM, clients), clients), deployed.cloud.bucket
    version = {"Key": "models/MLP/1/a", "VersionId": "1"}
    error = {"Key": version["Key"], "Code": "AccessDenied", "Message": "It is locked"}
    with Stubber(clients.s3) as stubber:
        stubber.add_response("head_bucket", {})
        stubber.add_response("list_object_versions", {"Versions": [version]}, {"Bucket": bucket})
        asked = {"Bucket": bucket, "Delete": {"Objects": [version], "Quiet": True}}
        stubber.add_response("delete_objects", {"Errors": [error]}, asked)
        with pytest.raises(FailedPrecondition, match="1 objects .*models/MLP/1/a: It is locked"):
            removal.models(lambda _: None)


def test_logs_of_a_function_that_were_made_anew_are_deleted(deployed: Deployed) -> None:
    clients = _clients(deployed)
    found = plan(SYSTEM, clients)
    removal = Removal(found, clients, lambda _: None)
    assert removal.log_groups() == [each for each in found.log_groups if "_base" not in each]
    assert removal.log_groups() == []
    own = f"/aws/lambda/{SYSTEM}-MLP"
    deployed.logs.create_log_group(logGroupName=own)
    assert removal.log_groups() == [own]


def test_stack_that_never_was_is_not_found(deployed: Deployed) -> None:
    with pytest.raises(NotFound, match="There is no stack nobody in eu-west-1"):
        plan("nobody", _clients(deployed))


def test_stack_of_others_is_not_removed(deployed: Deployed) -> None:
    bucket = Resource("AWS::S3::Bucket", deployed.cloud.bucket)
    theirs = deployed.stacks.add(Stack("theirs", {"Data": bucket}))
    with pytest.raises(InvalidArgument, match="not made from our templates"):
        plan("theirs", _clients(deployed))
    theirs.status = "ROLLBACK_COMPLETE"  # perhaps ours: a first deployment that failed
    assert plan("theirs", _clients(deployed)).buckets == [deployed.cloud.bucket]


def test_part_of_a_stack_is_not_removed(deployed: Deployed) -> None:
    with pytest.raises(InvalidArgument, match=rf"is a part of arn:.*stack/{SYSTEM}/"):
        plan(f"{SYSTEM}-System-1A", _clients(deployed))


def test_stack_of_images_has_the_name_that_sam_gives_it() -> None:
    code = "import sys; from samcli.lib.bootstrap.companion_stack.data_types import CompanionStack"
    names = [SYSTEM, "x" * 120]
    said = subprocess.check_output(
        [
            _SAM_PYTHON,
            "-c",
            f"{code}\nfor n in sys.argv[1:]: print(CompanionStack(n).stack_name)",
            *names,
        ],
        text=True,
    )
    assert [companion_name(each) for each in names] == said.split()
    assert companion_name(SYSTEM) == COMPANION


def _clients(deployed: Deployed) -> Clients:
    return Clients(boto3.client("cloudformation"), deployed.ecr, deployed.logs, deployed.cloud.s3)
