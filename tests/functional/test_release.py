"""The release of versions of a model, on a stand-in of Lambda that boto3 speaks to."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from lambda_plane import Plane, Refused, serving
from lambda_serving.errors import (
    Aborted,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.actions import Action, Build, Point, Publish, Retire, Update, Wait, Warm
from lambda_serving.release.deployment import Record
from lambda_serving.release.gateway import AwsGateway
from lambda_serving.release.reconcile import reconcile
from lambda_serving.version_policy import Latest, Specific, VersionPolicy

_REPOSITORY = "registry/models"


class _Store:
    """Versions that are complete, and what is recorded of them."""

    def __init__(self, **manifests: str) -> None:
        self.complete = {int(version[1:]): digest for version, digest in manifests.items()}
        self.recorded: dict[int, Record] = {}

    def manifests(self) -> Mapping[int, str]:
        return self.complete

    def records(self) -> Mapping[int, Record]:
        return dict(self.recorded)

    def record(self, version: int, record: Record) -> None:
        self.recorded[version] = record


class _Images:
    """An image is the model version in it."""

    def __init__(self) -> None:
        self.failures: dict[int, ServingError] = {}
        self.built: list[int] = []

    def base(self) -> str:
        return "sha256:base"

    def build(self, servable: ServableId) -> str:
        self.built.append(servable.version)
        if failure := self.failures.get(servable.version):
            raise failure
        return f"sha256:{servable.version}"


def _run(image: str, event: Any) -> Any:
    """A function that serves the version in its image; version 66 does not answer."""
    version = image.rpartition(":")[2]
    if version == "66":
        raise RuntimeError("Could not load the SavedModel in /models/MLP/66")
    if event["path"] != f"/v1/models/MLP/versions/{version}":
        return {"statusCode": 404, "body": {"error": "another version"}}
    return {"statusCode": 200, "body": {"model_version_status": []}}


@dataclasses.dataclass
class _World:
    plane: Plane
    store: _Store
    images: _Images
    gateway: AwsGateway

    def reconcile(self, policy: VersionPolicy = Latest()) -> list[Action]:  # noqa: B008 a value
        """All actions until nothing is to be done, however often Lambda needs time."""
        done: list[Action] = []
        for _ in range(20):
            if reconcile(policy, self.gateway, done.append) is None:
                return done
        raise AssertionError(f"no end: {done}")

    @property
    def live_image(self) -> str:
        return self.plane.versions[self.plane.live].image


@contextmanager
def _world(store: _Store) -> Iterator[_World]:
    images = _Images()
    plane = Plane("system-MLP", f"{_REPOSITORY}@sha256:template", _run)
    config = Config(retries={"total_max_attempts": 1})
    with serving(plane) as endpoint:
        client = boto3.client(
            "lambda",
            endpoint_url=endpoint,
            region_name="eu-west-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 nobody checks it
            config=config,
        )
        gateway = AwsGateway(
            "MLP", "system-MLP", _REPOSITORY, functions=client, releases=store, builder=images
        )
        yield _World(plane, store, images, gateway)
        client.close()


@pytest.fixture
def world() -> Iterator[_World]:
    with _world(_Store(v1="m1")) as world:
        yield world


def test_first_version_is_built_published_warmed_and_pointed_to(world: _World) -> None:
    assert world.reconcile() == [Build(1), Update(1), Publish(1), Warm(1, 2), Point(2)]
    assert world.live_image == f"{_REPOSITORY}@sha256:1"
    assert world.store.recorded == {
        1: Record("m1", "sha256:base", image="sha256:1", warm=2),
    }
    assert world.plane.versions[2].description == "model version 1, manifest m1, image sha256:1"
    assert world.reconcile() == []


def test_new_version_takes_over_and_the_one_before_stays_for_going_back(world: _World) -> None:
    world.reconcile()
    world.store.complete[2] = "m2"
    assert world.reconcile() == [Build(2), Update(2), Publish(2), Warm(2, 3), Point(3)]
    world.store.complete[3] = "m3"
    assert world.reconcile() == [Build(3), Update(3), Publish(3), Warm(3, 4), Point(4), Retire(2)]
    assert world.reconcile(Specific(frozenset({2}))) == [Point(3)]
    assert world.live_image == f"{_REPOSITORY}@sha256:2"


def test_version_that_is_retired_is_published_again_when_it_is_asked_for(world: _World) -> None:
    for version in (1, 2, 3):
        world.store.complete[version] = f"m{version}"
        world.reconcile()
    assert world.reconcile(Specific(frozenset({1}))) == [
        Update(1),
        Publish(1),
        Warm(1, 5),
        Point(5),
        Retire(3),
    ]


def test_version_that_cannot_be_built_is_recorded_and_passed_over(world: _World) -> None:
    world.reconcile()
    world.store.complete[2] = "m2"
    world.images.failures[2] = InvalidArgument("corrupt")
    assert world.reconcile() == [Build(2)]
    assert world.store.recorded[2].error == "corrupt"
    assert world.reconcile() == []
    assert world.images.built == [1, 2]
    assert world.live_image == f"{_REPOSITORY}@sha256:1"
    world.store.complete[2] = "mended"
    del world.images.failures[2]
    assert world.reconcile()[-1] == Point(3)


def test_version_that_does_not_answer_never_sees_traffic(world: _World) -> None:
    world.reconcile()
    world.store.complete[66] = "m66"
    assert world.reconcile() == [Build(66), Update(66), Publish(66), Warm(66, 3)]
    assert world.store.recorded[66].error == (
        "It does not answer: Could not load the SavedModel in /models/MLP/66"
    )
    assert world.live_image == f"{_REPOSITORY}@sha256:1"


def test_version_that_lambda_cannot_start_is_recorded_with_its_reason(world: _World) -> None:
    world.reconcile()
    world.store.complete[2] = "m2"
    world.plane.broken[f"{_REPOSITORY}@sha256:2"] = "The image is too large"
    world.reconcile()
    assert world.store.recorded[2].error == ("Lambda could not start it: The image is too large")
    assert world.live_image == f"{_REPOSITORY}@sha256:1"


def test_nothing_changes_while_the_store_is_empty(world: _World) -> None:
    world.reconcile()
    world.store.complete.clear()
    assert world.reconcile() == []
    assert world.live_image == f"{_REPOSITORY}@sha256:1"


def test_waits_for_lambda_without_doing_anything(world: _World) -> None:
    world.plane.looks = 3
    assert reconcile(Latest(), world.gateway) == Wait()
    assert world.plane.calls.count("Invoke") == 0


def test_action_that_changes_nothing_is_not_repeated_for_ever(world: _World) -> None:
    def forget(operation: str, moment: str) -> None:
        if (operation, moment) == ("PublishVersion", "after"):
            world.plane.versions.pop(max(world.plane.versions))

    world.plane.interfere = forget
    with pytest.raises(Aborted, match=r"Publish\(version=1\) went through and changed nothing"):
        world.reconcile()


_OPERATIONS = (
    "ListVersionsByFunction",
    "GetAlias",
    "UpdateFunctionCode",
    "GetFunction",
    "PublishVersion",
    "Invoke",
    "UpdateAlias",
    "DeleteFunction",
)


@pytest.mark.parametrize("operation", _OPERATIONS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_run_that_dies_at_any_call_is_made_good_by_the_next(operation: str, moment: str) -> None:
    with _world(_Store(v1="m1", v2="m2")) as world:
        for version in (1, 2):
            world.reconcile(Specific(frozenset({version})))
        world.store.complete[3] = "m3"
        died: list[str] = []

        def die(called: str, when: str) -> None:
            if (called, when) == (operation, moment) and not died:
                died.append(called)
                raise Refused(500, "ServiceException", "try again")

        world.plane.interfere = die
        with pytest.raises(Unavailable, match="try again"):
            world.reconcile()
        assert world.live_image in {f"{_REPOSITORY}@sha256:{version}" for version in (2, 3)}
        world.reconcile()
        assert world.live_image == f"{_REPOSITORY}@sha256:3"


def test_alias_that_somebody_else_moved_is_looked_at_again(world: _World) -> None:
    def move(operation: str, _: str) -> None:
        if operation == "UpdateAlias":
            world.plane.revision += 1
            world.plane.interfere = lambda _, __: None

    world.plane.interfere = move
    with pytest.raises(Aborted, match="another revision"):
        world.reconcile()
    assert world.reconcile() == [Point(2)]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDeniedException", PermissionDenied),
        ("ResourceNotFoundException", NotFound),
        ("TooManyRequestsException", Unavailable),
    ],
)
def test_refusal_of_lambda_is_told(world: _World, code: str, error: type[ServingError]) -> None:
    def refuse(_: str, __: str) -> None:
        raise Refused(400, code, "because")

    world.plane.interfere = refuse
    with pytest.raises(ServingError) as raised:
        world.reconcile()
    assert type(raised.value) is error
    assert str(raised.value) == f"AWS, asked about function system-MLP: because ({code})"


def test_store_that_cannot_be_reached_is_no_failure_of_the_model(world: _World) -> None:
    world.images.failures[1] = Unavailable("the registry does not answer")
    with pytest.raises(Unavailable, match="registry"):
        world.reconcile()
    assert world.store.recorded == {}
