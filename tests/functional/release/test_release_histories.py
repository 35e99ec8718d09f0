"""Random histories of a model: whatever happens, releases end well, and no alias is on a bad image.

Versions are pushed that Lambda refuses for good or for a while, policies change, people and AWS
do what they do, alarms ring, roles lose permissions, a second run is at work between the calls of
the first, and every call may be refused. Orders of images are delivered late, twice and in any
order. In the end, nothing is refused any more.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random
from typing import Any

import pytest

from lambda_serving.config.servable_version_policy import Latest, Specific, VersionPolicy
from lambda_serving.errors import DiskFull, InvalidArgument, ServingError
from lambda_serving.release.aws.bucket import BucketReleases, state_of
from lambda_serving.release.aws.build_orders import Builder, Order
from lambda_serving.release.build.handler import build
from lambda_serving.release.reconcile import reconcile
from support import cloud
from support.aws_plane import BUSY, UNFINISHED, Failure, Refused
from support.iam.policies import listed
from support.release_world import REPOSITORY, World, models

_STEPS = 30
_OPERATIONS = (
    "AddPermission",
    "CreateAlias",
    "CreateDeployment",
    "DeleteAlias",
    "DeleteFunction",
    "GetFunction",
    "GetFunctionConfiguration",
    "GetPolicy",
    "GetProvisionedConcurrencyConfig",
    "Invoke",
    "ListAliases",
    "ListVersionsByFunction",
    "PublishVersion",
    "StopDeployment",
    "UpdateAlias",
    "UpdateFunctionCode",
)
_OPERATIONS_OF_ROUTES = (
    "CreateIntegration",
    "CreateRoute",
    "DeleteIntegration",
    "DeleteRoute",
    "GetIntegrations",
    "GetRoutes",
    "UpdateRoute",
)
_REFUSALS = (
    Refused(403, "AccessDeniedException", "not authorized"),
    Refused(400, "SomethingException", "who knows"),
    Refused(400, "AliasLimitExceededException", "too many"),
    Refused(400, "CodeStorageExceededException", "too much"),
    Refused(400, "InvalidParameterValueException", "The role cannot be assumed by Lambda."),
    Refused(412, "PreconditionFailedException", "The Revision Id provided does not match"),
    Refused(409, "SnapStartNotReadyException", "not yet"),
    *(Refused(409, "ResourceConflictException", said) for said in BUSY),
)
_REFUSALS_OF_ROUTES = (
    Refused(403, "AccessDeniedException", "not authorized"),
    Refused(400, "BadRequestException", "Invalid integration"),
    Refused(409, "ConflictException", "Unable to complete: concurrent modification"),
    Refused(429, "ConflictException", "Maximum number of Routes for this API has been reached."),
    Refused(404, "NotFoundException", "Unable to find it"),
    Refused(400, "SomethingException", "who knows"),
)
_FORMS = (":predict", ":classify", ":regress", "", "/{proxy+}")
_ALARM = "errors"


class _Fate(Enum):
    """The fate of a version; for the last two, Lambda accepts the image in the end."""

    GOOD = "good"
    UNBUILT = "it cannot be built"
    UNFIT = "Lambda takes it and then fails to update the function"
    BROKEN = "Lambda cannot start it"
    MUTE = "it does not answer"
    LATE = "Lambda fails to update the function for a while"
    SLOW = "Lambda cannot start it for a while"

    @property
    def is_good(self) -> bool:
        return self in {_Fate.GOOD, _Fate.LATE, _Fate.SLOW}


@dataclass
class _BuildFunction:
    """The orders that Lambda has accepted, and those that it has delivered once."""

    taken: list[Order] = field(default_factory=list)
    delivered: list[Order] = field(default_factory=list)
    elsewhere = True

    def build(self, order: Order) -> None:
        self.taken.append(order)


class _Full:
    """A builder without enough disk."""

    elsewhere = False

    def build(self, _: Order) -> str:
        raise DiskFull("no space left")


@dataclass
class _History:
    world: World
    random: Random
    fates: dict[int, _Fate] = field(default_factory=dict)
    policy: VersionPolicy = field(default_factory=Latest)
    alarmed: set[int] = field(default_factory=set)
    denied: str = ""
    bases: int = 0
    told: list[str] = field(default_factory=list)
    builds: _BuildFunction = field(default_factory=_BuildFunction)

    def __post_init__(self) -> None:
        self.world.images.tell = self._built
        self.world.gateway = replace(self.world.gateway, builder=self.builds)
        run = self.world.plane.run

        def mute(image: str, event: Any, qualifier: str) -> Any:
            if self.fate(image) is _Fate.MUTE:
                raise RuntimeError("no answer")
            return run(image, event, qualifier)

        self.run = mute
        self.world.function.run = mute

    def fate(self, image: str) -> _Fate:
        version = image.rpartition("v")[2]
        return self.fates.get(int(version), _Fate.GOOD) if version.isdecimal() else _Fate.GOOD

    def _built(self, version: int, image: str) -> None:
        plane, fate = self.world.plane, self.fates[version]
        final = {_Fate.UNFIT: plane.unfit, _Fate.BROKEN: plane.broken}
        passing = {_Fate.LATE: plane.unfit, _Fate.SLOW: plane.broken}
        if fate in final:
            final[fate][image] = Failure("InvalidImage", "bad")
        if fate in passing and not self.world.clock.ahead > self._end:
            passing[fate][image] = Failure("InternalError", "not now")

    _end = 10**9
    restored: Callable[[], object] = lambda: None

    def step(self) -> None:
        action = self.random.choice(
            [
                self.push,
                self.push,
                self.wish,
                self.refuse,
                self.refuse_routes,
                self.deny,
                self.mend,
                self.deploy,
                self.sleep,
                self.drift,
                self.drift_of_routes,
                self.provision,
                self.add_again,
                self.shift,
                self.ring,
                self.deliver_again,
            ]
        )
        self.told.append(action.__name__)
        action()
        for _ in range(self.random.randint(1, 3)):
            with self.another_at_work(), suppress(ServingError):
                outcome = reconcile(self.world.gateway)
                self.world.later((outcome.seconds or 0) if outcome else 0)
            self.deliver(0.7)
            self.check()

    @contextmanager
    def another_at_work(self) -> Iterator[None]:
        """Now and then, a second run acts between two calls of the first, and ends."""
        calls = self.random.choice([0, self.random.randint(1, 60)])

        def work() -> None:
            nonlocal calls
            calls -= 1
            if calls == 0:
                self.deliver(0.5)
                left = [True] * self.random.randint(1, 4)
                with suppress(ServingError):
                    reconcile(self.world.gateway, is_time_left=lambda: bool(left and left.pop()))
                calls = self.random.choice([0, self.random.randint(1, 60)])

        self.world.between.do = work
        yield
        self.world.between.do = lambda: None

    def deliver(self, share: float) -> None:
        """Lambda delivers that share of the orders that it has not delivered yet, in any order."""
        for order in self.random.sample(self.builds.taken, len(self.builds.taken)):
            if self.random.random() < share:
                self.builds.taken.remove(order)
                self.builds.delivered.append(order)
                self._deliver(order, self.world.images)

    def deliver_again(self) -> None:
        """Delivers orders again; the present records must stay, however these builds end."""
        for order in self.random.sample(self.builds.delivered, min(5, len(self.builds.delivered))):
            before = self.releases.records([order.version])
            is_open = before and state_of(before[order.version]) in {"UNBUILT", "BUILDING"}
            self._deliver(order, self.world.images if is_open else _Full())
            assert is_open or self.releases.records([order.version]) == before, self.told

    def _deliver(self, order: Order, builder: Builder) -> None:
        bases = re.sub("[^0-9 ]", "", order.bases.digests).replace(" ", "l")
        self.world.images.prefix = f"b{bases}v"
        build(order, builder, self.releases, lambda *told: self.world.reported.append(told))

    @property
    def releases(self) -> BucketReleases:
        """The store of the build function, which keeps its rights."""
        cloud = self.world.cloud
        return BucketReleases(f"{cloud.models}/{self.world.name}", cloud.s3, self.world.clock)

    def push(self) -> None:
        version = max(self.fates, default=0) + 1
        fate = _Fate.GOOD if version == 1 else self.random.choice([*_Fate, _Fate.GOOD])
        self.fates[version] = fate
        if fate is _Fate.UNBUILT:
            self.world.images.failures[version] = InvalidArgument("corrupt")
        self.world.push(version, f"{version}")

    def wish(self) -> None:
        known = sorted(self.fates) or [1]
        some = frozenset(self.random.sample(known, min(2, len(known))))
        wishes: list[VersionPolicy] = [Latest(), Latest(2), Specific(some), Latest(3)]
        self.policy = self.random.choice(wishes)
        labels = {"stable": self.random.choice(known)} if self.random.random() < 0.5 else {}
        self.world.wish(self.policy, **labels)

    def refuse(self) -> None:
        self._refuse(self.random.choice(_OPERATIONS), self.random.choice(_REFUSALS))

    def refuse_routes(self) -> None:
        """Refuses calls in the middle of changes of addresses, each of which takes many calls."""
        operation = self.random.choice(_OPERATIONS_OF_ROUTES)
        self._refuse(operation, self.random.choice(_REFUSALS_OF_ROUTES), self.random.randint(0, 5))

    def _refuse(self, operation: str, refusal: Refused, passing: int = 0) -> None:
        moment = self.random.choice(["before", "before", "after"])
        left = [None] * passing + [refusal] * self.random.choice([1, 2, 1000])

        def refuse(called: str, when: str) -> None:
            if (called, when) == (operation, moment) and left and (refused := left.pop(0)):
                raise refused

        self.told[-1] += f" {operation} {moment} {refusal.code} {len(left)}"
        self.world.plane.interfere = refuse

    def deny(self) -> None:
        """The role's policies lack an action of one service."""
        self.restore()
        role = self.world.cloud.guard.roles["ReleaseRole"]
        kept = [*role.statements]
        actions = sorted({each for one in kept for each in listed(one["Action"])})
        self.denied = self.random.choice(actions)
        self.told[-1] += f" {self.denied}"
        for statement in kept:
            allowed = [each for each in listed(statement["Action"]) if each != self.denied]
            role.statements.remove(statement)
            role.statements.append({**statement, "Action": allowed})
        self.restored = lambda: role.statements.__setitem__(slice(None), kept)

    def restore(self) -> None:
        guard = self.world.cloud.guard
        self.restored()
        assert all(f" perform: {self.denied} on " in said for said in guard.denied), guard.denied
        guard.denied.clear()
        self.denied = ""

    def ring(self) -> None:
        """Sets off an alarm of the model, or ends it."""
        plane = self.world.plane
        if _ALARM in plane.ringing:
            self.world.calm(_ALARM)
            return
        for deployment in plane.deployments.values():
            if deployment.status in UNFINISHED and deployment.alarms:
                image = self.world.function.versions[deployment.target].image
                self.alarmed.add(int(image.rpartition("v")[2]))
        self.world.ring(_ALARM)

    def mend(self) -> None:
        """Ends all temporary trouble."""
        plane = self.world.plane
        self.restore()
        if _ALARM in plane.ringing:
            self.world.calm(_ALARM)
        plane.interfere = lambda _, __: None
        for failures in (plane.unfit, plane.broken):
            for image in [image for image, why in failures.items() if why.code == "InternalError"]:
                del failures[image]
        for version in self.world.function.versions.values():
            version.state = "" if version.state != "Inactive" else version.state
        for deployment in list(plane.deployments):
            with suppress(AssertionError):
                plane.finish(deployment)

    def deploy(self) -> None:
        self.alarmed.clear()  # all are built anew, and tried
        self.bases += 1
        lite = f"registry/lite@sha256:lite{self.bases // 2}"  # changes less often
        self.world.cloud.deploy_base(f"{REPOSITORY}@sha256:base{(self.bases + 1) // 2}", lite)
        self.world.function.latest.image = f"{REPOSITORY}@sha256:template"
        self.world.function.latest.memory += self.random.choice([0, 1])

    def sleep(self) -> None:
        for number, version in self.world.function.versions.items():
            if number != self.world.live and not version.looks and not version.failure:
                version.state = self.random.choice(["Inactive", "Deactivating", ""])

    def drift(self) -> None:
        """Somebody moves `live` to what was live before, and gives the function another image."""
        function = self.world.function
        good = [n for n, each in function.versions.items() if self._is_good(each.image)]
        function.point("live", self.random.choice(good), {})
        function.latest.image = self.world.live_image
        function.latest.update += 1

    def drift_of_routes(self, drift: str = "") -> None:
        """Somebody deletes a route of a version or label, opens one, or takes a permission away."""
        api, id_ = self.world.cloud.api, self.world.cloud.api_id
        routes = self._routes()
        policies = self.world.function.policies
        match drift or self.random.choice(["delete", "open", "forbid"]):
            case "delete" if routes:
                api.delete_route(ApiId=id_, RouteId=self.random.choice(routes)["RouteId"])
            case "open" if routes:
                route = self.random.choice(routes)["RouteId"]
                api.update_route(ApiId=id_, RouteId=route, AuthorizationType="NONE")
            case "forbid" if policies:
                policies.pop(self.random.choice(sorted(policies)))

    def _routes(self) -> list[Any]:
        """The routes of the model's versions and labels."""
        own = re.compile(rf"[A-Z]+ /v1/models/{self.world.name}/(versions|labels)/")
        return [each for each in self.world.cloud.routes() if own.match(each["RouteKey"])]

    def provision(self) -> None:
        self.world.function.provisioned = self.random.choice([{}, {"live": 3}])

    def add_again(self) -> None:
        for deployment in list(self.world.plane.deployments):
            with suppress(AssertionError):  # it has ended
                self.world.plane.fail(deployment, "INVALID_LAMBDA_FUNCTION", "it is gone")
        self.world.add_again()
        self.world.function.run = self.run

    def shift(self) -> None:
        """Adds CodeDeploy to the model's block, or removes it."""
        plane, group = self.world.plane, (cloud.SYSTEM, self.world.function.name)
        if group in plane.groups:
            self.mend()
            plane.groups.discard(group)
        else:
            plane.add_group(*group, *self.random.choice([(), (_ALARM,)]))

    def _is_good(self, image: str) -> bool:
        return self.fate(image).is_good and image not in self.world.plane.missing_images

    def check(self) -> None:
        function = self.world.function
        for name, alias in function.aliases.items():
            for number in (alias.function_version, *alias.weights):
                assert self._is_good(function.versions[number].image), (name, number, self.told)
        assert self.world.images_in_use.isdisjoint(self.world.plane.missing_images), self.told

    def end(self) -> None:
        """Refuses nothing any more, and checks that the model ends where the policy wants it."""
        self._end = -1
        self._settle()
        for policy in (Specific(frozenset({1})), Latest(3)):
            self.world.wish(policy, newest=max(self.fates))
            self._settle()
        for drift in ("delete", "open", "forbid"):
            self.drift_of_routes(drift)
            self._settle()

    def _settle(self) -> None:
        for _ in range(60):
            self.mend()
            self.deliver(1)
            with suppress(ServingError):
                outcome = reconcile(self.world.gateway)
                self.check()
                if outcome is None:
                    break
                self.world.later(max(outcome.seconds or 0, 1))
        else:
            pytest.fail(f"no end: {self.told}, {self.world.wait()}")
        seen = self.world.gateway.observe()
        rung = {version for version in seen.aspired if self._was_alarmed(version)}
        good = [v for v in seen.aspired if self.fates[v].is_good and v not in rung]
        bad = [v for v in seen.aspired if not self.fates[v].is_good]
        if good:
            ready = seen.ready(good[0])
            assert ready
            assert self.world.live == ready.number, self.told
        for version in good:
            assert seen.ready(version), (version, self.world.record(version), self.told)
        for version in bad:
            assert self.world.record(version)["state"] == "FAILED", self.told
        if good:
            self._check_addresses(good)

    def _was_alarmed(self, version: int) -> bool:
        """Whether it failed because an alarm rang while it got its first traffic."""
        error = self.world.record(version).get("error", "")
        return version in self.alarmed and "(ALARM_ACTIVE)" in error

    def _check_addresses(self, good: list[int]) -> None:
        """Checks that all versions but the live one, and all labels, have routes, and no others."""
        versions = {f"versions/{version}": f"version-{version}" for version in good[1:]}
        labels = {
            f"labels/{label}": f"label-{label}"
            for label, version in self.world.gateway.policy().labels.items()
            if version in good
        }
        aliases = versions | labels
        model = f"/v1/models/{self.world.name}"
        wanted = {
            (f"{method} {model}/{place}{form}", "AWS_IAM", self.world.function.arn(alias))
            for place, alias in aliases.items()
            for form in _FORMS
            for method in (["POST"] if ":" in form else ["GET", "POST"] if form else ["GET"])
        }
        pages = self.world.cloud.api.get_paginator("get_integrations")
        targets = {
            f"integrations/{each['IntegrationId']}": each["IntegrationUri"]
            for page in pages.paginate(ApiId=self.world.cloud.api_id)
            for each in page["Items"]
        }
        found = {
            (each["RouteKey"], each["AuthorizationType"], targets[each["Target"]])
            for each in self._routes()
        }
        assert found == wanted, self.told
        assert {*self.world.function.aliases} == {"live", *aliases.values()}, self.told
        policies = self.world.function.policies
        assert {name for name, each in policies.items() if each} == {*aliases.values()}, self.told


@pytest.fixture(scope="module")
def model(moto: str) -> Iterator[Callable[[str], World]]:
    with models(moto) as model:
        yield model


@pytest.mark.parametrize("seed", range(3))
def test_releases_end_well_whatever_happens(seed: int, model: Callable[[str], World]) -> None:
    history = _History(model(f"H{seed}"), Random(seed))  # noqa: S311 no secret
    history.deploy()
    history.push()
    for _ in range(_STEPS):
        history.step()
    history.end()
