"""The stand-ins of API Gateway and of the queue keep AWS's rules, as boto3 finds them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from support import api_gateway, cloud, front
from support.aws_plane import Plane
from support.cloud import Cloud


def _run(_: str, __: Any, qualifier: str) -> Any:
    return {"statusCode": 200, "body": qualifier, "isBase64Encoded": False}


@pytest.fixture(scope="module")
def deployed() -> Iterator[Cloud]:
    with cloud.moto() as endpoint, cloud.running(Plane(run=_run), endpoint) as deployed:
        deployed.deploy_model("MLP", "registry/models@sha256:template")
        yield deployed


def _code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str, str]:
    response = error.value.response
    told = response["Error"]
    return response["ResponseMetadata"]["HTTPStatusCode"], told["Code"], told["Message"]


def _own(deployed: Cloud) -> Any:
    key = "POST /v1/models/MLP:predict"
    return next(each for each in deployed.routes() if each["RouteKey"] == key)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("Routes", lambda api, api_id: api.create_route(ApiId=api_id, RouteKey="GET /one-more")),
        (
            "Integrations",
            lambda api, api_id: api.create_integration(ApiId=api_id, IntegrationType="AWS_PROXY"),
        ),
    ],
)
def test_quota_that_is_full_is_told_as_aws_does(kind: str, make: Any, deployed: Cloud) -> None:
    held: Any = getattr(api_gateway.api(deployed.api_id), kind.lower())
    [some, *_] = held.values()
    added = [f"more{number}" for number in range(api_gateway.QUOTA - len(held))]
    held.update(dict.fromkeys(added, some))
    with pytest.raises(ClientError) as error:
        make(deployed.api, deployed.api_id)
    told = f"Maximum number of {kind} for this API has been reached."
    assert _code(error)[:2] == (429, "ConflictException")
    assert _code(error)[2].startswith(told)
    for each in added:
        del held[each]


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"RouteKey": "POST /v1/models/MLP:predict"}, (409, "ConflictException")),
        ({"RouteKey": "GET /x", "AuthorizationType": "JWT"}, (400, "BadRequestException")),
        ({"RouteKey": "GET /x", "AuthorizerId": "none"}, (400, "BadRequestException")),
    ],
)
def test_route_that_cannot_be_is_refused(asked: Any, refusal: Any, deployed: Cloud) -> None:
    with pytest.raises(ClientError) as error:
        deployed.api.create_route(ApiId=deployed.api_id, **asked)
    assert _code(error)[:2] == refusal


def test_integration_that_a_route_leads_to_stays(deployed: Cloud) -> None:
    name = _own(deployed)["Target"].partition("/")[2]
    with pytest.raises(ClientError) as error:
        deployed.api.delete_integration(ApiId=deployed.api_id, IntegrationId=name)
    assert _code(error)[:2] == (409, "ConflictException")


def test_lists_come_in_pages(deployed: Cloud) -> None:
    first = deployed.api.get_routes(ApiId=deployed.api_id, MaxResults="2")
    assert (len(first["Items"]), len(deployed.routes()), "NextToken" in first) == (2, 6, True)


def test_routes_are_for_those_whom_their_authorization_lets_in(deployed: Cloud) -> None:
    with front.running(deployed) as port:
        url = f"http://127.0.0.1:{port}/v1/models/MLP:predict"

        def status(
            headers: dict[str, str] | None = None, auth: httpx.Auth | None = None
        ) -> tuple[int, Any]:
            found = httpx.post(url, headers=headers, auth=auth, timeout=60)
            return found.status_code, found.json() if found.is_error else found.text

        assert status() == (403, {"message": "Forbidden"})
        assert status(auth=front.SIGNING) == (200, "live")
        deployed.change_access("JWT")
        assert status(auth=front.SIGNING) == (401, {"message": "Unauthorized"})
        assert status(front.token(issuer="https://other")) == (401, {"message": "Unauthorized"})
        assert status(front.token(audience="other")) == (401, {"message": "Unauthorized"})
        assert status(front.token()) == (200, "live")
        route = _own(deployed)["RouteId"]
        deployed.api.update_route(
            ApiId=deployed.api_id, RouteId=route, AuthorizationScopes=["read", "write"]
        )
        assert status(front.token()) == (403, {"message": "Forbidden"})
        assert status(front.token("write", "x")) == (200, "live")
        deployed.change_access("OPEN")
        assert status() == (200, "live")


def test_queue_is_the_templates_and_gives_up_to_another(deployed: Cloud) -> None:
    told = deployed.sqs.get_queue_attributes(QueueUrl=deployed.queue_url, AttributeNames=["All"])
    attributes = told["Attributes"]
    assert (attributes["VisibilityTimeout"], attributes["DeduplicationScope"]) == (
        "720",
        "messageGroup",
    )
    redrive = json.loads(attributes["RedrivePolicy"])
    given_up = redrive["deadLetterTargetArn"].rpartition(":")[2]
    other = deployed.sqs.get_queue_url(QueueName=given_up)["QueueUrl"]
    deployed.repair("MLP")
    for _ in range(redrive["maxReceiveCount"]):
        [taken] = deployed.sqs.receive_message(QueueUrl=deployed.queue_url, VisibilityTimeout=0)[
            "Messages"
        ]
    assert "Messages" not in deployed.sqs.receive_message(QueueUrl=deployed.queue_url)
    [message] = deployed.sqs.receive_message(QueueUrl=other)["Messages"]
    assert message["Body"] == taken["Body"]
