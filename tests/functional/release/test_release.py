"""Releases on stand-ins of AWS that boto3 speaks to: every step, and a death at every call."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from lambda_serving.config.servable_version_policy import Latest, Specific
from lambda_serving.errors import (
    Aborted,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.deciding.actions import (
    Action,
    Build,
    Expose,
    Point,
    Publish,
    Retire,
    Update,
    Wait,
    Warm,
    Withdraw,
)
from lambda_serving.release.deciding.model_state import Record
from lambda_serving.release.golden import GOLDEN
from lambda_serving.release.reconcile import reconcile
from support import release_world
from support.aws_plane import Alias, Failure, Refused
from support.release_world import REPOSITORY, World, models

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def model(moto: str) -> Iterator[Callable[[str], World]]:
    with models(moto) as model:
        yield model


@pytest.fixture
def empty(model: Callable[[str], World]) -> World:
    """A model that has no version yet."""
    return model(f"M{next(_NUMBERS)}")


@pytest.fixture
def world(empty: World) -> World:
    """A model whose version 1 was pushed."""
    empty.push(1)
    return empty


def test_first_version_is_built_published_warmed_and_pointed_to(world: World) -> None:
    assert world.reconcile() == [Build(1), Update(1), Publish(1), Warm(1, 2), Point(2)]
    assert world.live_image == f"{REPOSITORY}@sha256:1"
    assert world.record(1) == {"state": "AVAILABLE", "image": "sha256:1", "warm": 2}
    assert world.cloud.record(world.name, 1)["seconds"].keys() == {"build", "warm"}
    content = world.gateway.observe().versions[1]
    description = world.function.versions[2].description
    assert description.startswith(f"model version 1, content {content}, image sha256:1, made ")
    assert world.reconcile() == []


def test_new_version_takes_over_and_the_one_before_stays_for_going_back(world: World) -> None:
    world.reconcile()
    world.push(2)
    assert world.reconcile() == [Build(2), Update(2), Publish(2), Warm(2, 3), Point(3)]
    world.push(3)
    assert world.reconcile() == [Build(3), Update(3), Publish(3), Warm(3, 4), Point(4), Retire(2)]
    world.wish(Specific(frozenset({2})))
    assert world.reconcile() == [Point(3)]
    assert world.live_image == f"{REPOSITORY}@sha256:2"


def test_version_that_was_retired_is_built_again_when_it_is_asked_for(world: World) -> None:
    for version in (1, 2, 3):
        world.push(version)
        world.reconcile()
    assert world.record(1) == {"state": "UNBUILT"}
    world.wish(Specific(frozenset({1})))
    assert world.reconcile() == [
        Build(1),
        Update(1),
        Publish(1),
        Warm(1, 5),
        Point(5),
        Retire(3),
    ]


def test_versions_that_are_wanted_beside_the_live_one_have_routes(world: World) -> None:
    world.push(2)
    world.wish(Latest(2), stable=1)
    world.reconcile()
    assert world.live_image == f"{REPOSITORY}@sha256:2"
    assert world.function.aliases["version-1"].function_version == 3
    assert world.function.aliases["label-stable"].function_version == 3
    routes = {
        route["RouteKey"]: (route["AuthorizationType"], route["Target"])
        for route in world.cloud.routes()
    }
    path = f"/v1/models/{world.name}/labels/stable"
    keys = [f"POST {path}:{verb}" for verb in ("predict", "classify", "regress")]
    keys += [f"GET {path}", f"GET {path}/{{proxy+}}", f"POST {path}/{{proxy+}}"]
    assert len({routes[key] for key in keys}) == 1
    [(authorization, target)] = {routes[key] for key in keys}
    integration = world.cloud.api.get_integration(
        ApiId=world.cloud.api_id, IntegrationId=target.partition("/")[2]
    )
    assert integration["IntegrationUri"] == world.function.arn("label-stable")
    assert authorization == "AWS_IAM"
    [statement] = world.function.policies["label-stable"].values()
    assert f"/*/*/v1/models/{world.name}/labels/stable*" in json.dumps(statement)
    assert world.reconcile() == []


def test_routes_go_when_their_version_is_not_wanted_any_more(world: World) -> None:
    before = len(world.cloud.routes())
    world.push(2)
    world.wish(Latest(2), stable=1)
    world.reconcile()
    world.wish(Latest())
    assert world.reconcile() == [Withdraw("label-stable"), Withdraw("version-1")]
    assert len(world.cloud.routes()) == before
    assert len(world.cloud.api.get_integrations(ApiId=world.cloud.api_id)["Items"]) == 1
    assert world.function.aliases.keys() == {"live"}


def test_label_moves_with_the_policy(world: World) -> None:
    world.push(2)
    world.wish(Latest(2), stable=1)
    world.reconcile()
    world.wish(Latest(2), stable=2)
    assert world.reconcile() == [Expose("label-stable", 2)]


def test_deployed_settings_go_live(world: World) -> None:
    world.reconcile()
    world.function.latest.memory = 2048
    assert world.reconcile() == [Publish(1), Warm(1, 3), Point(3), Retire(2)]
    assert world.function.versions[world.live].memory == 2048


@pytest.mark.parametrize(
    ("base", "lite"), [("new", "lite"), ("base", "new"), ("new", "new"), ("new", "")]
)
def test_deployed_code_goes_live_with_the_model_in_it(world: World, base: str, lite: str) -> None:
    world.reconcile()
    world.images.prefix = "new"
    world.function.run = lambda _, event, __: {"statusCode": 200, "body": event}
    world.cloud.deploy_base(f"{REPOSITORY}@sha256:{base}", lite and f"registry/lite@sha256:{lite}")
    world.function.latest.image = f"{REPOSITORY}@sha256:template2"
    assert world.reconcile() == [Build(1), Update(1), Publish(1), Warm(1, 3), Point(3), Retire(2)]
    assert world.live_image == f"{REPOSITORY}@sha256:new1"


def test_version_that_cannot_be_built_is_recorded_and_passed_over(world: World) -> None:
    world.reconcile()
    world.push(2)
    world.images.failures[2] = InvalidArgument("corrupt")
    assert world.reconcile() == [Build(2)]
    assert world.record(2) == {"state": "FAILED", "error": "corrupt"}
    assert world.reported == [(ServableId(world.name, 2), "corrupt")]
    assert world.reconcile() == []
    assert world.images.built == [1, 2]
    assert world.live_image == f"{REPOSITORY}@sha256:1"
    world.push(2, "mended")
    del world.images.failures[2]
    assert world.reconcile()[-1] == Point(3)


def test_version_that_does_not_answer_never_sees_traffic(world: World) -> None:
    world.reconcile()
    world.push(66)
    assert world.reconcile() == [Build(66), Update(66), Publish(66), Warm(66, 3)]
    error = "It does not answer: Could not load the SavedModel in /models/MLP/66"
    assert world.record(66)["error"] == error
    assert world.reported == [(ServableId(world.name, 66), error)]
    assert world.live_image == f"{REPOSITORY}@sha256:1"


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("2.0", None),
        ("3.0", "It does not answer as it should: line 1: predictions[0] is 2.0, expected 3.0"),
        ("x", "golden.jsonl, line 1 is not JSON"),
    ],
)
def test_golden_answers_are_asked_for_before_traffic(
    expected: str, error: str | None, world: World
) -> None:
    world.reconcile()
    pair = f'{{"request": {{"instances": [1.0]}}, "response": {{"predictions": [{expected}]}}}}'
    world.push(2, **{GOLDEN: pair})
    world.reconcile()
    assert world.live == (2 if error else 3)
    assert (error or "") in world.record(2).get("error", "")


def test_golden_answers_that_take_long_are_asked_for_once_each(world: World) -> None:
    """A hundred answers of two seconds each: no run has time for all, and one run dies."""
    world.reconcile()
    asks = [f'{{"instances":[ {number}.0 ]}}' for number in range(100)]
    lines = [f'{{"request": {ask},  "response": {{"predictions": [2.0]}}}}' for ask in asks]
    world.push(2, **{GOLDEN: "\n".join(lines)})
    now, asked = [0.0], list[Any]()

    def run(image: str, event: Any, qualifier: str) -> Any:
        if event["path"].endswith(":predict"):
            asked.append(event["body"])
            now[0] += 2
        return release_world.run(image, event, qualifier)

    world.function.run = run
    gateway = dataclasses.replace(world.gateway, clock=lambda: now[0])
    done, ends = list[Action](), iter((False, *[True] * 9))

    def has_ended() -> bool:
        start = now[0]
        if next(ends) is False:
            world.die_at("ListAliases", "after")
        return reconcile(gateway, done.append, lambda: now[0] - start < 45) is None

    ended = False
    while not ended:
        with suppress(Unavailable):
            ended = has_ended()
    assert asked == asks
    assert done[-2:] == [Warm(2, 3, 99), Point(3)]
    assert world.record(2)["warm"] == 3
    assert world.cloud.record(world.name, 2)["seconds"]["warm"] == 200


def test_golden_answers_in_any_folder_of_a_version_are_asked_for(world: World) -> None:
    pair = '{"request": {"instances": [1.0]}, "response": {"predictions": [3.0]}}'
    for name, body in {GOLDEN: pair, "manifest.json": "{}"}.items():
        key = f"models/{world.name}/00000002/{name}"
        world.cloud.s3.put_object(Bucket=world.cloud.bucket, Key=key, Body=body.encode())
    world.reconcile()
    assert world.record(2)["error"] == (
        "It does not answer as it should: line 1: predictions[0] is 2.0, expected 3.0"
    )


def test_key_that_is_no_file_holds_up_nothing(world: World) -> None:
    world.reconcile()
    odd = [f"models/{world.name}/{key}" for key in ("1/a\x01", "2//x")]
    for key in odd:
        world.cloud.s3.put_object(Bucket=world.cloud.bucket, Key=key, Body=b"")
    world.push(2)
    assert world.reconcile()[-1] == Point(3)
    world.wish(Specific(frozenset({1})))
    assert world.reconcile() == [Point(2)]
    assert world.gateway.observe().odd == odd


def test_version_that_lambda_cannot_start_is_recorded_with_its_reason(world: World) -> None:
    world.reconcile()
    world.push(2)
    world.plane.broken[f"{REPOSITORY}@sha256:2"] = Failure("InvalidImage", "It is too large")
    world.reconcile()
    assert world.record(2)["error"] == ("Lambda could not start it: It is too large (InvalidImage)")
    assert world.live_image == f"{REPOSITORY}@sha256:1"


def test_image_that_lambda_does_not_take_fails_its_version(world: World) -> None:
    world.reconcile()
    world.push(2)
    world.images.tell = lambda _, image: world.plane.missing_images.add(image)
    assert world.reconcile() == [Build(2), Update(2)]
    assert "does not exist" in world.record(2)["error"]
    assert world.live_image == f"{REPOSITORY}@sha256:1"


def test_nothing_changes_while_the_store_is_empty(world: World) -> None:
    world.reconcile()
    world.cloud.s3.delete_object(
        Bucket=world.cloud.bucket, Key=f"models/{world.name}/1/manifest.json"
    )
    assert world.reconcile() == []
    assert world.live_image == f"{REPOSITORY}@sha256:1"


def test_waits_for_lambda_without_doing_anything(world: World) -> None:
    world.plane.looks = 3
    assert reconcile(world.gateway) == Wait("Lambda updates the function", 5)
    assert world.plane.calls.count("Invoke") == 0


def test_stops_before_its_time_is_up(world: World) -> None:
    left = iter([True, False])
    done: list[Action] = []
    outcome = reconcile(world.gateway, done.append, lambda: next(left))
    assert (done, outcome) == ([Build(1)], Wait("the time of this run is up", 0))


def test_action_that_changes_nothing_is_not_repeated_for_ever(world: World) -> None:
    def forget(operation: str, moment: str) -> None:
        if (operation, moment) == ("PublishVersion", "after"):
            world.function.versions.pop(max(world.function.versions))

    world.plane.interfere = forget
    with pytest.raises(Aborted, match=r"^Publish version 1 .*: this succeeded but changed nothing"):
        world.reconcile()


def test_traffic_shifts_by_code_deploy_and_goes_back_at_once(world: World) -> None:
    shift = world.begin_shift()
    assert reconcile(world.gateway) == Wait("CodeDeploy moves traffic to version 2")
    world.plane.finish(shift)
    assert world.reconcile() == []
    assert world.live == 3
    world.wish(Specific(frozenset({1})))
    assert world.reconcile() == [Point(2)]


def test_shift_that_an_alarm_ends_fails_the_version(world: World) -> None:
    shift = world.begin_shift()
    world.plane.alarm(shift)
    world.reconcile()
    assert "ALARM_ACTIVE" in world.record(2)["error"]
    assert world.function.aliases["live"] == Alias(2, {}, world.function.aliases["live"].revision)
    assert world.reconcile() == []


def test_shift_is_stopped_when_the_version_before_is_asked_back(world: World) -> None:
    shift = world.begin_shift()
    world.wish(Specific(frozenset({1})))
    world.reconcile()
    assert world.plane.deployments[shift].status == "Stopped"
    assert (world.live, world.function.aliases["live"].weights) == (2, {})


_OPERATIONS = (
    "AddPermission",
    "CreateAlias",
    "CreateRoute",
    "DeleteAlias",
    "DeleteFunction",
    "Invoke",
    "ListAliases",  # after one call that changes nothing things stand as after any other
    "PublishVersion",
    "UpdateAlias",
    "UpdateFunctionCode",
)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_run_that_dies_at_any_call_is_made_good_by_the_next(moment: str, empty: World) -> None:
    """The updates also move a label, expose a version, withdraw one and retire one."""
    world = empty
    for version in (1, 2, 3):
        world.update(version)
    for version, operation in enumerate(_OPERATIONS, 4):
        died = world.die_at(operation, moment)
        with suppress(Unavailable):  # what an address lacks for a moment ends no run
            world.update(version)
        assert died == [operation]
        assert world.live_image in {
            f"{REPOSITORY}@sha256:{number}" for number in (version - 1, version)
        }
        world.reconcile()
        assert world.live_image == f"{REPOSITORY}@sha256:{version}"
        aliases = world.function.aliases
        assert aliases.keys() == {"live", f"version-{version - 1}", f"label-new{version}"}
        assert aliases[f"label-new{version}"].function_version == world.live
        assert [*world.function.versions][1:] == [world.live - 2, world.live - 1, world.live]


def test_alias_that_somebody_else_moved_is_looked_at_again(world: World) -> None:
    def move(operation: str, _: str) -> None:
        if operation == "UpdateAlias":
            world.function.aliases["live"].revision += 1
            world.plane.interfere = lambda _, __: None

    world.plane.interfere = move
    with pytest.raises(Aborted, match="PreconditionFailedException"):
        world.reconcile()
    assert world.reconcile() == [Point(2)]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDeniedException", PermissionDenied),
        ("ResourceNotFoundException", NotFound),
        ("SomethingException", Unavailable),
    ],
)
def test_refusal_of_lambda_is_reported(world: World, code: str, error: type[ServingError]) -> None:
    def refuse(_: str, __: str) -> None:
        raise Refused(400, code, "because")

    world.plane.interfere = refuse
    with pytest.raises(ServingError) as raised:
        world.reconcile()
    assert type(raised.value) is error
    assert str(raised.value) == f"AWS, asked about function system-{world.name}: because ({code})"


def test_store_that_cannot_be_reached_is_no_failure_of_the_model(world: World) -> None:
    world.images.failures[1] = Unavailable("the registry does not answer")
    with pytest.raises(Unavailable, match="registry"):
        world.reconcile()
    assert world.reported == []
    del world.images.failures[1]
    assert world.reconcile()[0] == Build(1)


class _Elsewhere:
    """The build function: it cannot be invoked, or finishes before the caller looks again."""

    elsewhere = True

    def __init__(self, world: World, failure: ServingError | None = None) -> None:
        self.releases = world.gateway.releases
        self.failure = failure
        self.is_quick = False

    def build(self, order: Order) -> None:
        if self.failure:
            raise self.failure
        if self.is_quick:
            image = f"sha256:{order.version}"
            done = Record(order.content, order.bases.digests, image, tag=order.record)
            self.releases.record(order.version, done)


@pytest.mark.parametrize("kind", [Unavailable, PermissionDenied, NotFound, Aborted])
def test_build_that_cannot_be_asked_for_is_neither_recorded_nor_a_failure(
    kind: type[ServingError], world: World
) -> None:
    gateway = dataclasses.replace(world.gateway, builder=_Elsewhere(world, kind("not now")))
    with pytest.raises(kind, match="not now"):
        reconcile(gateway)
    assert (world.gateway.observe().records, world.reported) == ({}, [])


def test_build_that_was_asked_for_is_recorded_unless_it_is_done(world: World) -> None:
    builder = _Elsewhere(world)
    gateway = dataclasses.replace(world.gateway, builder=builder)
    assert reconcile(gateway) == Wait("the image of version 1 is being built")
    assert world.record(1) == {"state": "BUILDING"}
    world.push(2)
    builder.is_quick = True
    reconcile(gateway)
    assert world.record(2)["image"] == "sha256:2"


def test_model_without_its_alias_is_reported(world: World) -> None:
    del world.function.aliases["live"]
    with pytest.raises(
        NotFound, match=f"Model {world.name} has no alias live. Deploy the stack again"
    ):
        world.reconcile()
