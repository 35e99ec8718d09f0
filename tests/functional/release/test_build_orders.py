"""Orders of images that Lambda delivers twice or late: no outcome replaces a later record.

Events happen before the build first looks at the record, or while it builds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from moto import mock_aws

from lambda_serving.errors import InvalidArgument, NotFound, ServingError, Unavailable
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.bucket import BucketReleases, state_of
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.release.build.handler import build
from lambda_serving.release.deciding.model_state import Record

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BASE = "sha256:base"
_SERVABLE = ServableId("MLP", 2)


@dataclass
class _World:
    """Version 2 of a model; after `meanwhile`, its builds end with `failure` if there is one."""

    client: "S3Client"
    models: str
    failure: ServingError | None = None
    meanwhile: Callable[[], object] = lambda: None
    built: list[Order] = field(default_factory=list)
    reported: list[tuple[ServableId, str]] = field(default_factory=list)
    elsewhere = False

    def __post_init__(self) -> None:
        self.releases = BucketReleases(f"s3://bucket/{self.models}/MLP", self.client)
        self.push("1")

    def push(self, content: str) -> None:
        self.put("MLP/2/manifest.json", content)

    def put(self, key: str, content: str) -> None:
        self.client.put_object(Bucket="bucket", Key=f"{self.models}/{key}", Body=content.encode())

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket="bucket", Key=f"{self.models}/{key}")

    @property
    def record(self) -> Record | None:
        return self.releases.records([2]).get(2)

    @property
    def tag(self) -> str | None:
        return self.record.tag if self.record else None

    def order(self) -> Order:
        """The order that the release function would give now."""
        content = self.releases.versions().complete[2]
        return Order("MLP", 2, content, f"registry/models@{_BASE}", self.tag)

    def note(self, order: Order, **told: Any) -> None:
        """Writes what the release function, or a build, records of an order."""
        record = Record(order.content, order.bases.digests, tag=self.tag)
        self.releases.record(2, replace(record, **told))

    def build(self, order: Order) -> str:
        self.built.append(order)
        self.meanwhile()
        if self.failure:
            raise self.failure
        return "sha256:image"

    def deliver(self, order: Order) -> None:
        build(order, self, self.releases, lambda *told: self.reported.append(told))

    def happen(self, moment: str, event: "_Event", order: Order) -> None:
        """Delivers an order; the event happens before, or while it builds."""
        if moment == "before":
            event(self, order)
        else:
            self.meanwhile = lambda: event(self, order)
        self.deliver(order)


@pytest.fixture(scope="module")
def worlds() -> Iterator[Callable[[], _World]]:
    """Makes worlds, each in its own folder of one bucket: moto takes a second to start."""
    with mock_aws():
        client: S3Client = boto3.Session("test", "test", region_name="us-east-1").client("s3")
        client.create_bucket(Bucket="bucket")
        numbers = count()
        yield lambda: _World(client, f"models{next(numbers)}")
        client.close()


@pytest.fixture
def world(worlds: Callable[[], _World]) -> _World:
    return worlds()


def _another_order(world: _World, order: Order) -> None:
    """Changes the version's files, and orders an image of the new ones."""
    world.push("others")
    world.note(world.order(), asked=2.0, builds=1)
    assert order.content != world.order().content


def _gone(world: _World, _: Order) -> None:
    world.delete("MLP/2/manifest.json")


_Event = Callable[[_World, Order], object]
_STANDS: dict[str, _Event] = {
    "nothing": lambda _, __: None,
    "the order is recorded": lambda world, order: world.note(order, asked=1.0, builds=1),
    "it is given once more": lambda world, order: world.note(order, asked=2.0, builds=2),
}
_VOID: dict[str, _Event] = {
    "it is built": lambda world, order: world.note(order, image="sha256:first"),
    "it answered": lambda world, order: world.note(order, image="sha256:first", warm=3),
    "it failed": lambda world, order: world.note(order, error="corrupt"),
    "it is condemned": lambda world, order: world.note(order, image="sha256:first", error="mute"),
    "it is retired": lambda world, order: world.note(order, image=None),
    "another base image is there": lambda world, order: world.note(
        replace(order, base="registry/models@sha256:newer"), asked=2.0
    ),
    "another base image for LiteRT is there": lambda world, order: world.note(
        replace(order, lite_base="registry/lite@sha256:newer"), asked=2.0
    ),
    "its files are others": _another_order,
    "its files are gone": _gone,
    "its files change unseen": lambda world, _: world.push("others"),
}
_FORMER: dict[str, _Event] = {
    "none": lambda _, __: None,
    "of other files": lambda world, order: world.note(
        replace(order, content="a"), image="sha256:a"
    ),
    "of another base image": lambda world, order: world.note(
        replace(order, base="registry/models@sha256:older"), error="too old"
    ),
    "retired": lambda world, order: world.note(order, image=None),
    "unreadable": lambda world, _: world.put("_releases/MLP/2.json", "{"),
}
_MOMENTS = ("before", "while it builds")
_CASES = (("before", None), ("while it builds", None), ("while it builds", NotFound("it is gone")))


def _at_order(
    former: str, failure: ServingError | None, worlds: Callable[[], _World]
) -> tuple[_World, Order]:
    """A world with that former record, whose builds end with `failure`, and an order given now."""
    world = worlds()
    _FORMER[former](world, world.order())
    world.failure = failure
    return world, world.order()


@pytest.mark.parametrize(
    ("former", "event"),
    [*product(_FORMER, ["nothing", "the order is recorded"]), ("none", "it is given once more")],
)
def test_order_that_stands_is_built_and_its_outcome_recorded(
    former: str, event: str, worlds: Callable[[], _World]
) -> None:
    for moment, failure in _CASES:
        world, order = _at_order(former, failure, worlds)
        world.happen(moment, _STANDS[event], order)
        assert world.built == [order]
        assert world.record
        told = (world.record.content, world.record.base, state_of(world.record))
        assert told == (order.content, _BASE, "FAILED" if failure else "BUILT")
        assert world.reported == ([(_SERVABLE, str(failure))] if failure else [])


@pytest.mark.parametrize("event", _VOID)
@pytest.mark.parametrize("former", ["none", "of other files"])
def test_order_that_is_void_changes_and_reports_nothing(
    former: str, event: str, worlds: Callable[[], _World], caplog: pytest.LogCaptureFixture
) -> None:
    for moment, failure in _CASES:
        world, order = _at_order(former, failure, worlds)
        after: list[Record | None] = []

        def happens(world: _World, order: Order, after: list[Record | None] = after) -> None:
            _VOID[event](world, order)
            after.append(world.record)

        caplog.clear()
        world.happen(moment, happens, order)
        assert [world.record] == after
        assert world.built == ([] if moment == "before" else [order])
        assert world.reported == []
        assert f"{_SERVABLE}: nothing to do" in caplog.text


def test_order_whose_record_was_deleted_is_void(world: _World) -> None:
    """Deleting a record asks for another build, which gets an order of its own."""
    world.note(world.order(), image=None)
    order = world.order()
    world.delete("_releases/MLP/2.json")
    world.deliver(order)
    assert (world.record, world.built) == (None, [])


@pytest.mark.parametrize("first", [None, InvalidArgument("corrupt")])
@pytest.mark.parametrize("second", [None, InvalidArgument("no space left")])
@pytest.mark.parametrize("moment", _MOMENTS)
def test_first_outcome_of_an_order_that_is_delivered_twice_stays(
    first: ServingError | None, second: ServingError | None, moment: str, world: _World
) -> None:
    order = world.order()
    world.note(order, asked=1.0, builds=1)

    def delivered_first(world: _World, order: Order) -> None:
        world.failure, world.meanwhile = first, lambda: None
        world.deliver(order)
        world.failure = second

    world.happen(moment, delivered_first, order)
    assert world.record
    assert state_of(world.record) == ("FAILED" if first else "BUILT")
    assert len(world.reported) == (1 if first else 0)


@pytest.mark.parametrize(
    ("recorded", "state"),
    [
        (None, "BUILT"),
        ({"asked": 1.0, "builds": 1}, "BUILT"),
        ({"error": "corrupt"}, "FAILED"),
        ({"image": "sha256:first", "warm": 3}, "AVAILABLE"),
    ],
)
def test_order_of_an_older_release_function_names_no_record(
    recorded: dict[str, Any] | None, state: str, world: _World
) -> None:
    told = {"name": "MLP", "version": 2, "base": f"registry/models@{_BASE}"}
    order = Order.of({**told, "content": world.order().content})
    if recorded is not None:
        world.note(order, **recorded)
    world.deliver(order)
    assert world.record
    assert state_of(world.record) == state


@contextmanager
def _answering(world: _World, event: str, answer: Any) -> Iterator[None]:
    """Answers writes to S3 with `answer`, through an event of botocore."""
    events: Any = world.client.meta.events
    events.register_first(f"{event}.s3.PutObject", answer)
    try:
        yield
    finally:
        events.unregister(f"{event}.s3.PutObject", answer)


def _refusing(status: int, code: str, times: int) -> Callable[..., Any]:
    """An answer that refuses `times` writes."""
    left = [({"Code": code, "Message": "no"}, status)] * times

    def refuse(**_: object) -> Any:
        if not left:
            return None
        error, status = left.pop()
        answer = SimpleNamespace(status_code=status)
        return answer, {"Error": error, "ResponseMetadata": {}}

    return refuse


_REFUSALS = [
    (409, "ConditionalRequestConflict"),
    (412, "PreconditionFailed"),
    (404, "NoSuchKey"),
]


@pytest.mark.parametrize(("status", "code"), _REFUSALS)
def test_outcome_that_meets_a_conflict_is_recorded_after_another_look(
    status: int, code: str, world: _World
) -> None:
    world.failure = InvalidArgument("corrupt")
    with _answering(world, "before-call", _refusing(status, code, 2)):
        world.deliver(world.order())
    assert world.record
    assert (world.record.error, len(world.reported)) == ("corrupt", 1)


@pytest.mark.parametrize(("status", "code"), _REFUSALS)
def test_outcome_that_meets_conflicts_only_is_left_to_another_try(
    status: int, code: str, world: _World
) -> None:
    order = world.order()
    refusing = _answering(world, "before-call", _refusing(status, code, 1000))
    with pytest.raises(Unavailable, match="others keep changing its record"), refusing:
        world.deliver(order)
    assert world.record is None


@pytest.mark.parametrize("failure", [None, InvalidArgument("corrupt")])
def test_outcome_whose_write_is_repeated_is_recorded_once(
    failure: ServingError | None, world: _World
) -> None:
    """The answer to the first write is lost, and the second finds what the first one wrote."""
    lost = [SimpleNamespace(stream=lambda **_: iter(()))]

    def lose(request: Any, **_: object) -> Any:
        return AWSResponse(request.url, 500, HTTPHeaders(), lost.pop()) if lost else None

    world.failure = failure
    order = world.order()
    with _answering(world, "before-send", lose):
        world.deliver(order)
    assert world.record
    assert (state_of(world.record), lost) == ("FAILED" if failure else "BUILT", [])
    assert len(world.reported) == (1 if failure else 0)
