"""Commands of a project need exactly the rights in docs/project.md."""

from pathlib import Path

from lambda_serving.cli.cost import cost
from lambda_serving.cli.destroy import destroy
from lambda_serving.cli.logs import logs
from lambda_serving.cli.metrics import metrics
from support.cloud import ACCOUNT, REGION, SYSTEM
from support.deployed_project import Deployed
from support.iam.reference import useless
from support.rights import not_needed, run_as, statements_of, take

_PAGE = Path(__file__).parents[3] / "docs/project.md"
_STACK = f"--stack={SYSTEM}"


def test_commands_need_the_rights_of_the_page_and_no_others(deployed: Deployed) -> None:
    around = deployed.cloud
    values = {"ACCOUNT": ACCOUNT, "BUCKET": around.bucket, "REGION": REGION, "STACK": SYSTEM}
    rights = statements_of(_PAGE.read_text(), values)
    looking, logging, counting, removing, emptying = rights
    for role, statements in rights.items():
        more = [] if role == looking else rights[looking]
        more = more + (rights[removing] if role == emptying else [])
        take(around, role, [*statements, *more])
    deployed.count("AWS/Lambda", "Invocations", 1, FunctionName=f"{SYSTEM}-MLP")
    around.s3.put_bucket_versioning(
        Bucket=around.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    around.s3.put_object(Bucket=around.bucket, Key="models/MLP/1/a", Body=b"x")

    run_as(around, logging, logs, _STACK)
    run_as(around, logging, logs, "_access", _STACK)
    run_as(around, counting, metrics, _STACK)
    run_as(around, counting, cost, _STACK)
    for _ in range(2):  # what is gone is looked for elsewhere
        run_as(around, removing, destroy, _STACK, "--yes")
    run_as(around, emptying, destroy, _STACK, "--yes", "--models")
    for role, statements in rights.items():
        assert [each for statement in statements for each in useless(statement)] == []
        who = counting if role == looking else role  # which has these as well
        assert not_needed(around, who, statements) == []
