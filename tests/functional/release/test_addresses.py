"""Addresses of versions and labels: who may call them, from where, and how they are repaired."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from lambda_serving.config.servable_version_policy import Latest
from lambda_serving.errors import Aborted, ServingError
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.aws.deployed_model import AwsGateway
from lambda_serving.release.aws.policy_file import PolicyFile
from lambda_serving.release.aws.stack import Clients, System
from lambda_serving.release.deciding.actions import Action, Expose
from lambda_serving.release.reconcile import reconcile
from support import api_gateway, cloud, front
from support.aws_plane import Function, Plane, Refused
from support.cloud import SYSTEM, Access, Cloud

_REPOSITORY = "registry/models"
_ORIGIN = "https://page.example"
_PLACES = ("", "/versions/1", "/labels/stable")
_FORMS = (
    ":predict",
    "/metadata",
    ":classify",
    ":regress",
    "",
    "/grpc-web/tensorflow.serving.PredictionService/Predict",
)


class _Images:
    elsewhere = False

    def build(self, order: Order) -> str:
        return f"sha256:{order.version}"


def _run(_: str, event: Any, qualifier: str) -> Any:
    """Answers with the qualifier that was called, and with CORS headers of its own."""
    if "requestContext" not in event:
        return {"statusCode": 200, "body": {"predictions": []}}
    headers = {"access-control-allow-origin": "https://other.example"}
    return {"statusCode": 200, "headers": headers, "body": qualifier, "isBase64Encoded": False}


@dataclass
class _World:
    """A model whose two newest versions are wanted; the older one has the label `stable`."""

    cloud: Cloud
    function: Function
    gateway: AwsGateway
    told: list[tuple[str, str, str]]
    newest: int = 0

    @property
    def live(self) -> int | None:
        return self.cloud.live("MLP")

    def push(self, wanted: int = 2) -> int:
        """Pushes the next version; returns its number."""
        self.newest += 1
        key = f"models/MLP/{self.newest}/manifest.json"
        self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=key, Body=b"{}")
        PolicyFile(f"{self.cloud.models}/MLP", self.cloud.s3).change(
            lambda model: replace(model, policy=Latest(wanted), labels={"stable": self.newest - 1})
        )
        return self.newest

    def run(self) -> tuple[list[Action], ServingError | None]:
        """Takes all actions, until none is left or one fails; returns them and the error."""
        done: list[Action] = []
        for _ in range(20):
            try:
                if reconcile(self.gateway, done.append) is None:
                    return done, None
            except ServingError as error:
                return done, error
        raise AssertionError(f"no end: {done}")

    def mended(self) -> set[str]:
        """Runs; returns the aliases that it exposed, and checks that it did nothing else."""
        done, error = self.run()
        assert error is None
        exposed = {each.alias for each in done if isinstance(each, Expose)}
        assert len(exposed) == len(done)
        return exposed

    def check(self) -> None:
        """Checks that the newest version is live, the other has addresses, and nothing is left."""
        before = self.newest - 1
        assert self.run() == ([], None)
        assert self.live == self.newest
        assert self.function.aliases.keys() == {"live", "label-stable", f"version-{before}"}
        for alias in (f"versions/{before}", "labels/stable"):
            told = self.ask("POST", f"/{alias}:predict", auth=front.SIGNING).text
            assert told == alias.replace("s/", "-")

    def state(self) -> Any:
        """What callers may do through the API, and what Lambda allows the API."""
        api = api_gateway.api(self.cloud.api_id)
        routes = {
            each.route_key: (
                each.authorization_type,
                each.authorizer_id or None,
                each.authorization_scopes or [],
                api.integrations[each.target.partition("/")[2]].integration_uri,
                api.integrations[each.target.partition("/")[2]].payload_format_version,
                api.integrations[each.target.partition("/")[2]].timeout_in_millis,
            )
            for each in api.routes.values()
        }
        return routes, json.dumps(self.function.policies, sort_keys=True)

    def refuse(self, operation: str, code: str, status: int = 400) -> None:
        """Refuses an operation until `accept`."""

        def refuse(called: str, moment: str) -> None:
            if (called, moment) == (operation, "before"):
                raise Refused(status, code, "because")

        self.cloud.plane.interfere = refuse

    def accept(self) -> None:
        self.cloud.plane.interfere = lambda *_: None

    def ask(
        self, method: str, path: str, auth: httpx.Auth | None = None, **headers: str
    ) -> httpx.Response:
        with front.running(self.cloud) as port:
            url = f"http://127.0.0.1:{port}/v1/models/MLP{path}"
            return httpx.request(method, url, headers=headers, auth=auth, timeout=60)


@pytest.fixture(scope="module")
def released(moto: str) -> Iterator[_World]:
    """Versions 1 and 2, released one after the other."""
    with cloud.running(Plane(run=_run, looks=0), moto, cors=(_ORIGIN,)) as deployed:
        deployed.deploy_base(f"{_REPOSITORY}@sha256:base")
        function = deployed.deploy_model("MLP", f"{_REPOSITORY}@sha256:template")
        told: list[tuple[str, str, str]] = []
        gateway = System(SYSTEM, deployed.models, deployed.api_id).gateway(
            "MLP",
            Clients.connect(),
            lambda *_: None,
            _Images(),
            lambda *each: told.append(each),
        )
        world = _World(deployed, function, gateway, told)
        for _ in range(2):
            world.push()
            world.run()
        yield world


@pytest.fixture
def world(released: _World) -> Iterator[_World]:
    """The stack in good order, and checked again after the test."""
    yield released
    released.accept()
    released.told.clear()
    released.check()


_CREDENTIALS: dict[Access, tuple[dict[str, str], httpx.Auth | None]] = {
    "IAM": ({}, front.SIGNING),
    "JWT": (front.token(), None),
    "OPEN": ({}, None),
}
_REFUSALS: dict[Access, int] = {"IAM": 403, "JWT": 401, "OPEN": 200}
_CHANGES: tuple[Access, ...] = ("OPEN", "IAM", "JWT", "OPEN", "JWT", "IAM")


def test_access_and_preflights_of_every_path_are_those_of_the_model(world: _World) -> None:
    """The API itself answers preflights, which have no credentials, for allowed origins."""
    for access in _CHANGES:
        world.cloud.change_access(access)
        assert world.mended() == {f"version-{world.newest - 1}", "label-stable"}
        with (
            front.running(world.cloud) as port,
            httpx.Client(timeout=60) as client,
        ):
            for place in _PLACES:
                for form in _FORMS if access == _CHANGES[-1] else _FORMS[:2]:
                    _check_path(client, port, place, form, access)


def _check_path(client: httpx.Client, port: int, place: str, form: str, access: Access) -> None:
    method = "POST" if ":" in form or "grpc" in form else "GET"
    url, page = f"http://127.0.0.1:{port}/v1/models/MLP{place}{form}", {"origin": _ORIGIN}
    ask = {**page, "access-control-request-method": method}
    found = client.options(url, headers=ask)
    allowed = found.headers.get("access-control-allow-origin")
    assert (url, found.status_code, allowed) == (url, 204, _ORIGIN)
    assert method in found.headers["access-control-allow-methods"]
    other = client.options(url, headers={**ask, "origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    refused = client.request(method, url, headers=page)
    assert (url, refused.status_code) == (url, _REFUSALS[access])
    headers, auth = _CREDENTIALS[access]
    answer = client.request(method, url, headers={**page, **headers}, auth=auth)
    assert (url, answer.text) == (url, place[1:].replace("s/", "-") or "live")
    assert answer.headers["access-control-allow-origin"] == _ORIGIN


def _stable(world: _World, verb: str = "POST") -> Any:
    key = f"{verb} /v1/models/MLP/labels/stable" + (":predict" if verb == "POST" else "")
    return next(each for each in world.cloud.routes() if each["RouteKey"] == key)


def _update(world: _World, **changes: Any) -> None:
    world.cloud.api.update_route(
        ApiId=world.cloud.api_id, RouteId=_stable(world)["RouteId"], **changes
    )


def _with_authorizer(world: _World, *scopes: str) -> None:
    made = world.cloud.api.create_authorizer(
        ApiId=world.cloud.api_id,
        Name="somebody's",
        AuthorizerType="JWT",
        IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Issuer": "https://somebody.example", "Audience": ["x"]},
    )
    _update(
        world,
        AuthorizationType="JWT",
        AuthorizerId=made["AuthorizerId"],
        AuthorizationScopes=[*scopes],
    )


def _integration(world: _World, **changes: Any) -> None:
    name = _stable(world)["Target"].partition("/")[2]
    world.cloud.api.update_integration(ApiId=world.cloud.api_id, IntegrationId=name, **changes)


def _lead_elsewhere(world: _World) -> None:
    own = next(
        each for each in world.cloud.routes() if each["RouteKey"] == "POST /v1/models/MLP:predict"
    )
    _update(world, Target=own["Target"])


def _as_before(world: _World) -> None:
    """Creates what earlier releases created: routes open to everybody."""
    for each in ("GET", "POST"):
        key = f"{each} /v1/models/MLP/labels/stable/{{proxy+}}"
        route = next(found for found in world.cloud.routes() if found["RouteKey"] == key)
        world.cloud.api.delete_route(ApiId=world.cloud.api_id, RouteId=route["RouteId"])
    world.cloud.api.create_route(
        ApiId=world.cloud.api_id,
        RouteKey="ANY /v1/models/MLP/labels/stable/{proxy+}",
        Target=_stable(world)["Target"],
        AuthorizationType="NONE",
    )


def _allow(world: _World, **changes: Any) -> None:
    """Changes what the policy's statement says."""
    statement = world.function.policies["label-stable"]["api"]
    world.function.policies["label-stable"]["api"] = {**statement, **changes}


_ELSEWHERE = "arn:aws:lambda:eu-west-1:123456789012:function:system-MLP:live"
_SOURCE = {"AWS:SourceArn": "arn:aws:execute-api:eu-west-1:123456789012:other/*/*/v1/models/x*"}


@pytest.mark.parametrize(
    "drift",
    [
        lambda world: _update(world, AuthorizationType="NONE"),
        _with_authorizer,
        lambda world: _with_authorizer(world, "read"),
        _lead_elsewhere,
        lambda world: _integration(world, IntegrationUri=_ELSEWHERE),
        lambda world: _integration(world, PayloadFormatVersion="1.0"),
        lambda world: _integration(world, TimeoutInMillis=50),
        lambda world: world.cloud.api.delete_route(
            ApiId=world.cloud.api_id, RouteId=_stable(world, "GET")["RouteId"]
        ),
        _as_before,
        lambda world: world.function.policies["label-stable"].clear(),
        lambda world: world.function.policies.pop("label-stable"),
        lambda world: _allow(world, Condition={"ArnLike": _SOURCE}),
        lambda world: _allow(world, Condition={}),
        lambda world: _allow(world, Principal="*"),
        lambda world: _allow(world, Effect="Deny"),
        lambda world: _allow(world, Action="lambda:GetFunction"),
    ],
)
def test_change_by_hand_is_repaired_at_the_next_look(
    drift: Callable[[_World], Any], world: _World
) -> None:
    before = world.state()
    drift(world)
    assert world.state() != before
    assert world.mended() == {"label-stable"}
    assert world.state() == before


def test_route_that_cannot_be_updated_is_replaced(world: _World) -> None:
    before = world.state()
    _with_authorizer(world, "read")
    world.refuse("UpdateRoute", "BadRequestException")
    assert world.mended() == {"label-stable"}
    assert world.state() == before


def test_routes_whose_alias_is_gone_go_too(world: _World) -> None:
    del world.function.aliases["label-stable"]
    del world.function.policies["label-stable"]
    policy = PolicyFile(f"{world.cloud.models}/MLP", world.cloud.s3)
    labels = policy.read().labels
    policy.change(lambda model: replace(model, labels={}))
    world.run()
    assert not [each for each in world.cloud.routes() if "stable" in each["RouteKey"]]
    policy.change(lambda model: replace(model, labels=labels))
    world.run()


def _fill(world: _World, kind: str, left: int) -> list[str]:
    """Adds other routes or integrations until only `left` more fit; returns their ids."""
    api = api_gateway.api(world.cloud.api_id)
    made = []
    for number in range(api_gateway.QUOTA - left - len(getattr(api, kind))):
        if kind == "routes":
            made.append(api.create_route(False, [], f"GET /{number}", "").route_id)  # noqa: FBT003 moto's
        else:
            made.append(api.create_integration("INTERNET", "", "POST", "AWS_PROXY", "x").id)
    return made


@pytest.mark.parametrize(("kind", "left"), [("routes", 0), ("routes", 3), ("integrations", 0)])
def test_full_quota_keeps_no_version_from_going_live(kind: str, left: int, world: _World) -> None:
    others = _fill(world, kind, left)
    version = world.push(wanted=3)
    assert (world.run()[1], world.live) == (None, version)
    [(model, alias, error)] = world.told
    assert (model, alias) == ("MLP", f"version-{version - 1}")
    assert "Maximum number of" in error
    for each in others:
        getattr(api_gateway.api(world.cloud.api_id), kind).pop(each)
    assert world.mended() == {f"version-{version - 1}"}
    world.push()
    world.run()


@pytest.mark.parametrize("kind", ["routes", "integrations"])
def test_address_takes_the_room_of_one_that_goes(kind: str, world: _World) -> None:
    others = _fill(world, kind, 0)
    world.push()
    assert (world.run()[1], world.told) == (None, [])
    world.check()
    for each in others:
        getattr(api_gateway.api(world.cloud.api_id), kind).pop(each)


_DENIED, _AWAY = ("AccessDeniedException", 403), ("ServiceException", 501)


@pytest.mark.parametrize(
    ("operation", "refusal"),
    [
        ("GetRoutes", _DENIED),
        ("GetRoutes", _AWAY),
        ("GetIntegrations", _AWAY),
        ("CreateIntegration", _DENIED),
        ("CreateRoute", _DENIED),
        ("CreateRoute", _AWAY),
        ("CreateAlias", _DENIED),
        ("GetPolicy", _DENIED),
        ("AddPermission", _AWAY),
    ],
)
def test_refused_address_keeps_no_version_from_going_live(
    operation: str, refusal: tuple[str, int], world: _World
) -> None:
    world.refuse(operation, *refusal)
    version = world.push()
    _, error = world.run()
    assert world.live == version
    assert error or world.told
    world.accept()
    assert world.run()[1] is None


def test_conflict_is_not_taken_for_a_permission(world: _World) -> None:
    world.refuse("AddPermission", "ResourceConflictException", 409)
    version = world.push()
    _, error = world.run()
    assert (type(error), world.live) == (Aborted, version)
    world.accept()
    assert world.run()[1] is None
    assert {"label-stable", f"version-{version - 1}"} <= world.function.policies.keys()


def test_permission_that_somebody_else_just_gave_is_found_by_the_next_look(world: _World) -> None:
    """With two releases at once, one by hand, one of them finds that the statement exists."""

    def be_quicker(called: str, moment: str) -> None:
        if (called, moment) == ("AddPermission", "after"):
            world.accept()
            raise Refused(409, "ResourceConflictException", "The statement id (api) exists")

    world.push()
    world.cloud.plane.interfere = be_quicker
    world.run()
    calls = len(world.cloud.plane.calls)
    assert world.run()[1] is None
    assert "AddPermission" not in world.cloud.plane.calls[calls:]
