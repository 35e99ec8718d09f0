"""Addresses of versions and labels: who may call them, from where, and what their lack holds up."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import httpx
import pytest

import api_gateway
import cloud
import front
from aws_plane import Function, Plane, Refused
from cloud import SYSTEM, Access, Cloud
from lambda_serving.errors import Aborted, ServingError
from lambda_serving.release.actions import Action, Build, Expose, Point
from lambda_serving.release.build import Order
from lambda_serving.release.gateway import AwsGateway
from lambda_serving.release.policy_file import PolicyFile
from lambda_serving.release.reconcile import reconcile
from lambda_serving.release.system import Clients, System
from lambda_serving.version_policy import Latest

_REPOSITORY = "registry/models"
_ORIGIN = "https://page.example"
_ALIASES = {"live", "label-stable", "version-1"}
_PLACES = ("", "/versions/1", "/labels/stable")
_PATHS = [
    *(f"{place}:predict" for place in _PLACES),
    *_PLACES[1:],
    *(f"{place}/metadata" for place in _PLACES),
    *(f"{place}/grpc-web/tensorflow.serving.PredictionService/Predict" for place in _PLACES),
]


class _Images:
    elsewhere = False

    def build(self, order: Order) -> str:
        return f"sha256:{order.version}"


def _run(_: str, event: Any, qualifier: str) -> Any:
    """Answers everything by who it is, with headers of CORS of its own."""
    if "requestContext" not in event:
        return {"statusCode": 200, "body": {"predictions": []}}
    headers = {"access-control-allow-origin": "https://other.example"}
    return {"statusCode": 200, "headers": headers, "body": qualifier, "isBase64Encoded": False}


@dataclass
class _World:
    """A model whose versions 1 and 2 are wanted, with the label `stable` for 1."""

    cloud: Cloud
    function: Function
    gateway: AwsGateway
    told: list[tuple[str, str, str]] = field(default_factory=list)

    def push(self, version: int) -> None:
        key = f"models/MLP/{version}/manifest.json"
        self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=key, Body=b"{}")

    def run(self) -> tuple[list[Action], ServingError | None]:
        """All actions until there are none, or an error."""
        done: list[Action] = []
        for _ in range(20):
            try:
                if reconcile(self.gateway, done.append) is None:
                    return done, None
            except ServingError as error:
                return done, error
        raise AssertionError(f"no end: {done}")

    def release_both(self) -> None:
        for version in (1, 2):
            self.push(version)
        assert self.run()[1] is None
        assert self.function.aliases.keys() == _ALIASES

    def state(self) -> Any:
        """Who may call what by the API, and what Lambda allows the API."""
        api = api_gateway.api(self.cloud.api_id)
        routes = {
            each.route_key: (
                each.authorization_type,
                each.authorizer_id or None,
                each.authorization_scopes or [],
                api.integrations[each.target.partition("/")[2]].integration_uri,
                api.integrations[each.target.partition("/")[2]].payload_format_version,
            )
            for each in api.routes.values()
        }
        return routes, json.dumps(self.function.policies, sort_keys=True)

    def refuse(self, operation: str, code: str, status: int = 400) -> None:
        """Until `accept`."""

        def refuse(called: str, moment: str) -> None:
            if (called, moment) == (operation, "before"):
                raise Refused(status, code, "because")

        self.cloud.plane.interfere = refuse

    def accept(self) -> None:
        self.cloud.plane.interfere = lambda *_: None

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        with front.running(self.cloud) as port:
            url = f"http://127.0.0.1:{port}/v1/models/MLP{path}"
            return httpx.request(method, url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with cloud.moto() as endpoint:
        yield endpoint


@contextmanager
def _world(moto: str, access: Access) -> Iterator[_World]:
    with cloud.running(Plane(run=_run, looks=0), moto, access=access, cors=(_ORIGIN,)) as deployed:
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
        PolicyFile(f"{deployed.models}/MLP", deployed.s3).change(
            lambda model: replace(model, policy=Latest(2), labels={"stable": 1})
        )
        yield _World(deployed, function, gateway, told)


@pytest.fixture
def world(moto: str) -> Iterator[_World]:
    with _world(moto, "IAM") as world:
        yield world


_CREDENTIALS: dict[Access, dict[str, str]] = {
    "IAM": front.SIGNED,
    "JWT": front.token(),
    "OPEN": {},
}
_REFUSALS: dict[Access, int] = {"IAM": 403, "JWT": 401, "OPEN": 200}


@pytest.mark.parametrize("access", ["IAM", "JWT", "OPEN"])
def test_pages_of_allowed_origins_reach_every_path_and_only_with_credentials(
    access: Access, moto: str
) -> None:
    """A preflight has none: the API answers it."""
    with _world(moto, access) as world, front.running(world.cloud) as port:
        world.release_both()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for path in _PATHS:
                method = "POST" if ":" in path or "grpc-web" in path else "GET"
                url, asked = f"/v1/models/MLP{path}", {"origin": _ORIGIN}
                ask = {**asked, "access-control-request-method": method}
                found = client.options(url, headers=ask)
                allowed = found.headers.get("access-control-allow-origin")
                assert (path, found.status_code, allowed) == (path, 204, _ORIGIN)
                assert method in found.headers["access-control-allow-methods"]
                other = client.options(url, headers={**ask, "origin": "https://other.example"})
                assert "access-control-allow-origin" not in other.headers
                refused = client.request(method, url, headers=asked)
                assert (path, refused.status_code) == (path, _REFUSALS[access])
                answer = client.request(method, url, headers={**asked, **_CREDENTIALS[access]})
                place = next(place for place in reversed(_PLACES) if path.startswith(place))
                alias = {"": "live", "/versions/1": "version-1", "/labels/stable": "label-stable"}
                assert (path, answer.text) == (path, alias[place])
                assert answer.headers["access-control-allow-origin"] == _ORIGIN


@pytest.mark.parametrize(
    ("before", "after"),
    [("OPEN", "IAM"), ("OPEN", "JWT"), ("IAM", "JWT"), ("JWT", "IAM"), ("JWT", "OPEN")],
)
def test_access_of_versions_and_labels_follows_the_models_own(
    before: Access, after: Access, moto: str
) -> None:
    with _world(moto, before) as world:
        world.release_both()
        world.cloud.change_access(after)
        assert world.run() == ([Expose("version-1", 2), Expose("label-stable", 2)], None)
        for path in _PATHS[1:]:
            method = "POST" if ":" in path or "grpc-web" in path else "GET"
            assert world.ask(method, path).status_code == _REFUSALS[after]
            assert world.ask(method, path, **_CREDENTIALS[after]).status_code == HTTPStatus.OK
        assert world.run() == ([], None)


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
    """What releases made before, open to everybody."""
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
    """The statement of the policy says something else."""
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
def test_what_somebody_changed_by_hand_is_mended_at_the_next_look(
    drift: Callable[[_World], Any], world: _World
) -> None:
    world.release_both()
    before = world.state()
    drift(world)
    assert world.state() != before
    assert world.run() == ([Expose("label-stable", 2)], None)
    assert world.state() == before
    assert world.run() == ([], None)


def test_route_that_cannot_be_updated_is_replaced(world: _World) -> None:
    world.release_both()
    before = world.state()
    _with_authorizer(world, "read")
    world.refuse("UpdateRoute", "BadRequestException")
    assert world.run() == ([Expose("label-stable", 2)], None)
    assert world.state() == before


def test_routes_whose_alias_is_gone_go_too(world: _World) -> None:
    world.release_both()
    del world.function.aliases["label-stable"]
    world.function.policies.pop("label-stable")
    PolicyFile(f"{world.cloud.models}/MLP", world.cloud.s3).change(
        lambda model: replace(model, labels={})
    )
    world.run()
    assert not [each for each in world.cloud.routes() if "stable" in each["RouteKey"]]


def _fill(world: _World, kind: str, left: int) -> list[str]:
    """Routes or integrations of others until there is room for so many; their ids."""
    api = api_gateway.api(world.cloud.api_id)
    made = []
    for number in range(api_gateway.QUOTA - left - len(getattr(api, kind))):
        if kind == "routes":
            made.append(api.create_route(False, [], f"GET /{number}", "").route_id)  # noqa: FBT003 moto's
        else:
            made.append(api.create_integration("INTERNET", "", "POST", "AWS_PROXY", "x").id)
    return made


@pytest.mark.parametrize(
    ("kind", "left"), [("routes", 0), ("routes", 3), ("integrations", 0), ("integrations", 1)]
)
def test_full_quota_keeps_no_version_from_going_live(kind: str, left: int, world: _World) -> None:
    others = _fill(world, kind, left)
    world.push(1)
    world.push(2)
    done, error = world.run()
    assert (Point(3) in done, error) == (True, None)
    assert world.function.aliases["live"].function_version == 3
    assert ("MLP", "label-stable") in {each[:2] for each in world.told}
    assert all("Maximum number of" in each[2] for each in world.told)
    world.push(3)
    assert Point(4) in world.run()[0]
    for each in others:
        getattr(api_gateway.api(world.cloud.api_id), kind).pop(each)
    world.told.clear()
    done, error = world.run()
    assert ({Expose("version-2", 3)} <= {*done}, error, world.told) == (True, None, [])
    assert world.ask("POST", "/versions/2:predict", **front.SIGNED).text == "version-2"


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDeniedException", 403), ("ServiceException", 501)]
)
@pytest.mark.parametrize(
    "operation",
    [
        "GetRoutes",
        "GetIntegrations",
        "CreateIntegration",
        "CreateRoute",
        "CreateAlias",
        "GetPolicy",
        "AddPermission",
    ],
)
def test_what_is_refused_to_an_address_keeps_no_version_from_going_live(
    operation: str, code: str, status: int, world: _World
) -> None:
    world.push(1)
    world.refuse(operation, code, status)
    assert Build(1) in world.run()[0]
    world.push(2)
    done, error = world.run()
    assert Point(3) in done
    assert error or world.told
    world.accept()
    assert world.run()[1] is None
    assert world.function.aliases.keys() == _ALIASES
    assert world.ask("POST", "/labels/stable:predict", **front.SIGNED).text == "label-stable"


def test_conflict_is_not_taken_for_a_permission(world: _World) -> None:
    world.push(1)
    world.push(2)
    world.refuse("AddPermission", "ResourceConflictException", 409)
    done, error = world.run()
    assert Point(3) in done
    assert isinstance(error, Aborted)
    world.accept()
    assert world.run() == ([Expose("version-1", 2), Expose("label-stable", 2)], None)
    assert {"label-stable", "version-1"} <= world.function.policies.keys()


def test_permission_that_somebody_else_just_gave_is_one(world: _World) -> None:
    """Of two releases at once, one by hand, one is told that the statement exists."""

    def be_quicker(called: str, moment: str) -> None:
        if (called, moment) == ("AddPermission", "after"):
            world.accept()
            raise Refused(409, "ResourceConflictException", "The statement id (api) exists")

    world.push(1)
    world.push(2)
    world.cloud.plane.interfere = be_quicker
    assert world.run()[1] is None
    assert world.run() == ([], None)
