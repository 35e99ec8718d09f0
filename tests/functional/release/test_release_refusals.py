"""A refusal by Lambda concerns one version, and a temporary one fails none."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from lambda_serving.config.servable_version_policy import Latest, Specific
from lambda_serving.errors import (
    Aborted,
    InvalidArgument,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.release.deciding.actions import Point, Publish, Update, Wait, Wake, Warm
from lambda_serving.release.reconcile import reconcile
from support.aws_plane import BUSY, Failure, Refused
from support.cloud import SYSTEM
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
    """A model whose version 1 is live."""
    empty.push(1)
    empty.reconcile()
    return empty


def _image(version: int) -> str:
    return f"{REPOSITORY}@sha256:{version}"


@pytest.mark.parametrize(
    ("code", "shows_unfit"),
    [("InvalidImage", False), ("SizeLimitExceeded", True), ("ImageDeleted", False)],
)
def test_image_that_lambda_takes_and_then_refuses_fails_its_version_alone(
    code: str,
    shows_unfit: bool,  # noqa: FBT001 - as pytest passes it
    empty: World,
) -> None:
    world = empty
    world.plane.unfit[_image(2)] = Failure(code, "It will not do")
    world.plane.shows_unfit = shows_unfit
    for version in (1, 2):
        world.push(version)
    world.wish(Latest(2))
    world.reconcile()
    error = f"Lambda rejects its image: It will not do ({code})"
    assert world.record(2) == {"state": "FAILED", "image": "sha256:2", "error": error}
    assert [each for _, each in world.reported] == [error]
    assert (world.record(1)["state"], world.live_image) == ("AVAILABLE", _image(1))


@pytest.mark.parametrize(
    "code", ["ImageAccessDenied", "InternalError", "KMSKeyAccessDenied", "New"]
)
def test_update_that_fails_for_what_passes_is_made_again_and_holds_up_no_other(
    code: str, empty: World
) -> None:
    world = empty
    world.plane.unfit[_image(2)] = Failure(code, "not now")
    for version in (1, 2):
        world.push(version)
    world.wish(Latest(2))
    outcome = world.wait()
    assert f"not now ({code})" in outcome.what
    assert (world.record(2)["state"], world.live_image) == ("BUILT", _image(1))
    del world.plane.unfit[_image(2)]
    world.later(400)
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


@pytest.mark.parametrize("code", ["EniLimitExceeded", "InsufficientCapacity"])
def test_version_that_lambda_cannot_start_just_now_is_published_again(
    code: str, world: World
) -> None:
    world.plane.broken[_image(2)] = Failure(code, "not now")
    world.push(2)
    assert f"not now ({code})" in world.wait().what
    assert world.live_image == _image(1)
    del world.plane.broken[_image(2)]
    world.later(400)
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


@pytest.mark.parametrize("state", ["Deactivating", "Deactivated", "ActiveNonInvocable", "Deleting"])
def test_state_that_nobody_knows_is_waited_for(state: str, world: World) -> None:
    world.push(2)
    world.plane.interfere = _becomes(world, state)
    assert world.wait().what.endswith(state)
    assert (world.live_image, world.record(2)["state"]) == (_image(1), "BUILT")
    world.plane.interfere = lambda _, __: None
    world.function.versions[3].state = ""
    world.reconcile()
    assert world.live_image == _image(2)


def _becomes(world: World, state: str) -> Callable[[str, str], None]:
    def change(operation: str, moment: str) -> None:
        if (operation, moment) == ("PublishVersion", "after"):
            world.function.versions[3].state = state

    return change


@pytest.mark.parametrize(
    ("operation", "said"),
    [*zip(["UpdateFunctionCode", "PublishVersion", "UpdateAlias"], BUSY, strict=True)],
)
def test_conflict_condemns_nothing(operation: str, said: str, world: World) -> None:
    world.push(2)
    world.refuse(operation, Refused(409, "ResourceConflictException", said))
    with pytest.raises(Aborted):
        world.reconcile()
    world.plane.interfere = lambda _, __: None
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


@pytest.mark.parametrize(
    ("said", "condemns"),
    [
        ("Source image {} does not exist. Provide a valid source image.", True),
        ("Source image {} is not valid. Provide a valid source image.", True),
        ("The image manifest, config or layer media type for the source image {} is not", True),
        ("The image manifest or layer media type for the source image {} is not supported.", True),
        ("Uncompressed container image size exceeds 10 GiB limit", True),
        ("Source image registry/models@sha256:before does not exist. Provide a valid one.", False),
        ("The role defined for the function cannot be assumed by Lambda.", False),
        ("Lambda does not have permission to access the ECR image. Check the permissions.", False),
        ("Lambda was unable to configure access to your environment variables", False),
    ],
)
def test_invalid_parameter_condemns_a_version_only_if_it_is_about_its_image(
    said: str,
    condemns: bool,  # noqa: FBT001 - as pytest passes it
    world: World,
) -> None:
    world.push(2)
    message = said.format(_image(2))
    world.refuse("UpdateFunctionCode", Refused(400, "InvalidParameterValueException", message))
    if condemns:
        world.reconcile()
        assert message in world.record(2)["error"]
        return
    with pytest.raises(Unavailable):
        world.reconcile()
    assert world.record(2)["state"] == "BUILT"
    world.plane.interfere = lambda _, __: None
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


@pytest.mark.parametrize(
    ("operation", "refusal", "error"),
    [
        ("UpdateFunctionCode", ("AccessDeniedException", 403), PermissionDenied),
        ("PublishVersion", ("CodeStorageExceededException", 400), Unavailable),
        ("Invoke", ("KMSAccessDeniedException", 400), Unavailable),
    ],
)
def test_version_that_is_refused_for_long_lets_others_pass(
    operation: str, refusal: tuple[str, int], error: type[ServingError], empty: World
) -> None:
    world = empty
    code, status = refusal
    for version in (1, 2):
        world.push(version)
    world.wish(Latest(2))
    world.refuse(operation, Refused(status, code, "because"))
    outcomes = list[str]()
    for _ in range(6):
        try:
            outcomes.append(world.wait().what)
        except error:
            outcomes.append("refused")
    assert outcomes[0] == "refused"
    assert any("tried again later: " in each for each in outcomes)
    world.plane.interfere = lambda _, __: None
    world.later(400)
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


def test_image_that_the_function_has_is_not_deleted(world: World) -> None:
    """It belongs to a version that did not answer, and so is not kept for going back."""
    world.push(66)
    world.reconcile()
    assert world.function.latest.image == _image(66)
    world.wish(Specific(frozenset({1})))
    world.reconcile()
    assert list(world.function.versions) == [1, 2]
    assert _image(66) not in world.plane.missing_images


def test_image_of_a_version_that_somebody_published_is_not_deleted(world: World) -> None:
    world.function.publish("by hand")
    world.function.latest.update += 1
    by_hand = world.function.publish("by hand")
    for version in (2, 3):
        world.push(version)
        world.reconcile()
    assert 2 not in world.function.versions
    assert world.function.versions[by_hand].image == _image(1)
    assert _image(1) not in world.plane.missing_images


def test_version_that_may_not_be_deleted_keeps_its_image(world: World) -> None:
    world.push(2)
    world.reconcile()
    world.push(3)
    world.refuse("DeleteFunction", Refused(403, "AccessDeniedException", "no"))
    with pytest.raises(PermissionDenied):
        world.reconcile()
    assert world.live_image == _image(3)
    assert not world.plane.missing_images
    assert world.record(1)["state"] == "AVAILABLE"


def test_model_that_is_removed_and_added_again_is_asked_anew(empty: World) -> None:
    world = empty
    world.push(1)
    world.reconcile()
    world.push(2)
    world.reconcile()
    world.add_again()
    actions = world.reconcile()
    assert actions == [Update(2), Publish(2), Warm(2, 2), Point(2)]
    assert world.live_image == _image(2)
    world.add_again()
    world.function.run = lambda *_: {"statusCode": 500, "body": "out of order"}
    world.reconcile()
    assert world.live == 1  # the template's
    assert "out of order" in world.record(2)["error"]


def test_version_that_sleeps_is_woken_before_it_is_live_again(world: World) -> None:
    world.push(2)
    world.reconcile()
    for code in ("ResourceNotReadyException", "SnapStartNotReadyException"):
        live = world.live
        back = 5 - live
        world.function.versions[back].state = "Inactive"
        world.function.asleep, world.function.waking_looks = Refused(409, code, "not now"), 2
        world.wish(Specific(frozenset({back - 1})))
        done = world.reconcile()
        assert (done[0], done[-1]) == (Wake(back), Point(back))


def test_snapshot_that_takes_minutes_is_looked_at_less_often(world: World) -> None:
    world.plane.publish_looks = 10**6
    world.push(2)
    seconds = list[float]()
    for _ in range(30):
        outcome = reconcile(world.gateway)
        assert outcome
        seconds.append(outcome.seconds or 0)
        world.later(seconds[-1])
    assert (seconds[0], seconds[-1]) == (5, 60)
    assert sum(seconds) > 900


def test_provisioned_concurrency_is_waited_for_and_not_fought(world: World) -> None:
    world.function.provisioned["live"] = 9
    world.push(2)
    outcome = world.wait()
    assert outcome == Wait("Lambda allocates provisioned concurrency", 60)
    assert world.function.aliases["live"].weights == {2: 1.0}
    moves = world.plane.calls.count("UpdateAlias")
    world.reconcile()
    assert (world.live_image, world.function.aliases["live"].weights) == (_image(2), {})
    assert world.plane.calls.count("UpdateAlias") == moves


def test_alarm_that_rings_already_does_not_condemn_the_remedy(world: World) -> None:
    world.plane.add_group(SYSTEM, world.function.name, "errors", "others")
    world.ring("errors")
    world.push(2)
    world.wait()
    [shift] = world.plane.deployments
    assert world.plane.deployments[shift].status in {"Created", "InProgress"}
    world.plane.shift(shift, 0.5)
    world.plane.finish(shift)
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


def test_rollback_goes_at_once_in_the_middle_of_a_shift(world: World) -> None:
    """Whatever CodeDeploy says about it, and even before the first request has moved."""
    world.plane.add_group(SYSTEM, world.function.name)
    for number, version in enumerate((2, 3), 1):
        world.wish(Latest())
        world.push(version)
        world.wait()
        shift = f"d-{number:09}"
        if version == 2:
            world.plane.shift(shift, 0.5)
        world.refuse("StopDeployment", Refused(400, "SomethingException", "slowly"))
        world.wish(Specific(frozenset({1})))
        with pytest.raises(Unavailable, match="slowly"):
            world.reconcile()
        assert (world.live_image, world.function.aliases["live"].weights) == (_image(1), {})
        world.plane.interfere = lambda _, __: None
        world.reconcile()
        assert world.plane.deployments[shift].status == "Stopped"
        assert (world.live_image, world.function.aliases["live"].weights) == (_image(1), {})


def test_rollback_goes_at_once_to_what_was_built_on_an_older_base(world: World) -> None:
    world.push(2)
    world.reconcile()
    world.cloud.deploy_base(f"{REPOSITORY}@sha256:other")
    world.images.failures[1] = Unavailable("the registry does not answer")
    world.wish(Specific(frozenset({1})))
    with pytest.raises(Unavailable):
        world.reconcile()
    assert world.live_image == _image(1)
    world.images.failures.clear()
    world.images.prefix = "new"
    world.reconcile()
    assert world.live_image == f"{REPOSITORY}@sha256:new1"


def test_larger_version_that_is_built_anew_stays_live_meanwhile(world: World) -> None:
    world.push(2)
    world.wish(Latest(2))
    world.reconcile()
    world.cloud.deploy_base(f"{REPOSITORY}@sha256:other")
    world.images.prefix, world.plane.publish_looks = "new", 10**6
    world.wait()
    assert world.live_image == _image(2)
    assert world.function.aliases["version-1"].function_version in world.function.versions


def test_removed_and_added_block_has_another_clock(world: World) -> None:
    """Two functions of one name are told apart, even with the same version number."""
    before = world.gateway.observe().function_versions[0].origin
    world.add_again()
    world.reconcile()
    after = world.gateway.observe().function_versions[0].origin
    assert before != after == replace(before, made=after.made)


def _shift(world: World, version: int) -> str:
    """Makes CodeDeploy move traffic to a new version; returns its deployment."""
    world.push(version)
    world.wait()
    shift = list(world.plane.deployments)[-1]
    world.plane.shift(shift, 0.5)
    return shift


@pytest.mark.parametrize(
    "code",
    ["IAM_ROLE_PERMISSIONS", "INTERNAL_ERROR", "INVALID_LAMBDA_CONFIGURATION", "THROTTLED", "New"],
)
@pytest.mark.parametrize("rolls_back", [True, False])
def test_shift_that_fails_for_what_passes_is_made_again(
    code: str,
    rolls_back: bool,  # noqa: FBT001 - as pytest passes it
    world: World,
) -> None:
    """Even if CodeDeploy leaves the alias split, as it may without its permissions."""
    world.plane.add_group(SYSTEM, world.function.name)
    for _ in range(2):
        shift = _shift(world, 2)
        world.plane.end(shift, "Failed", code, "not now", roll_back=rolls_back)
        assert f"not now ({code})" in str(reconcile(world.gateway))
        assert world.record(2)["state"] == "AVAILABLE"
        world.later(300)
    world.wait()
    world.plane.finish(list(world.plane.deployments)[-1])
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


@pytest.mark.parametrize("code", ["ALARM_ACTIVE", "HOOK_EXECUTION_FAILURE", "MANUAL_STOP"])
def test_shift_that_ends_for_what_the_version_does_fails_it(code: str, world: World) -> None:
    world.plane.add_group(SYSTEM, world.function.name)
    world.plane.fail(_shift(world, 2), code, "bad")
    world.reconcile()
    error = f"CodeDeploy moved the traffic back: bad ({code})"
    assert (world.record(2)["error"], world.live_image) == (error, _image(1))


def test_alias_in_two_pieces_is_put_together_before_a_shift(world: World) -> None:
    """Somebody splits it by hand; CodeDeploy refuses such an alias."""
    world.plane.add_group(SYSTEM, world.function.name)
    world.function.point("live", world.live, {1: 0.5})
    shift = _shift(world, 2)
    world.plane.finish(shift)
    world.reconcile()
    assert (world.live_image, len(world.plane.deployments)) == (_image(2), 1)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_version_whose_shift_a_rollback_stopped_may_come_again(moment: str, world: World) -> None:
    """Whenever the run of the rollback ended."""
    world.plane.add_group(SYSTEM, world.function.name)
    _shift(world, 2)
    world.wish(Specific(frozenset({1})))
    world.die_at("StopDeployment", moment)
    with suppress(ServingError):
        world.reconcile()
    world.reconcile()
    world.wish(Latest())
    world.wait()
    world.plane.finish(list(world.plane.deployments)[-1])
    world.reconcile()
    assert (world.live_image, world.reported) == (_image(2), [])


def test_alias_of_code_that_may_change_holds_up_nothing(world: World) -> None:
    """The alias may be `live` itself, or somebody else's."""
    for name in ("dev", "label-old", "live"):
        world.function.point(name, 0, {})
    assert Point(2) in world.reconcile()
    world.push(2)
    world.reconcile()
    assert world.live_image == _image(2)
    assert world.function.aliases.keys() == {"dev", "live"}


@pytest.mark.parametrize("body", ["", '{"content": "c", "base": "b", "tries": "many"}'])
def test_invalid_record_is_written_anew_and_holds_up_nothing(body: str, world: World) -> None:
    for version in (1, 2):
        world.cloud.s3.put_object(
            Bucket=world.cloud.bucket,
            Key=f"models/_releases/{world.name}/{version}.json",
            Body=body.encode(),
        )
    world.push(2)
    world.wish(Latest(2))
    world.reconcile()
    assert [world.record(version)["state"] for version in (1, 2)] == ["AVAILABLE"] * 2
    assert world.live_image == _image(2)


def _no_report(*_: object) -> None:
    raise Unavailable("the event bus does not answer")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("build", Unavailable("no registry")),
        ("build", PermissionDenied("may not build")),
        ("report", Unavailable("the event bus does not answer")),
    ],
)
def test_step_of_a_version_that_is_refused_holds_up_no_other(
    step: str, error: ServingError, empty: World
) -> None:
    """In the same run, at whose end the refusal is raised."""
    world = empty
    world.push(1)
    world.push(2)
    world.wish(Latest(2))
    if step == "report":
        world.images.failures[2] = InvalidArgument("corrupt")
        world.gateway = replace(world.gateway, report=_no_report)
    else:
        world.images.failures[2] = error
    for _ in range(6):
        with pytest.raises(type(error), match=str(error)):
            reconcile(world.gateway)
    assert world.live_image == _image(1)


@pytest.mark.parametrize("operation", ["Invoke", "PublishVersion", "UpdateFunctionCode"])
@pytest.mark.parametrize(
    "refusal",
    [
        Refused(400, "InvalidParameterValueException", "The role cannot be assumed by Lambda."),
        Refused(400, "CodeStorageExceededException", "Code storage limit exceeded."),
    ],
)
def test_rollback_and_addresses_wait_for_no_refused_step(
    operation: str, refusal: Refused, world: World
) -> None:
    """Version 3 cannot be made ready, whoever refuses it, and 1 gets its label meanwhile."""
    world.push(2)
    world.reconcile()
    world.push(3)
    world.refuse(operation, refusal)
    world.wish(Latest(3), old=1)
    with pytest.raises(ServingError, match=refusal.message):
        reconcile(world.gateway)
    assert {"label-old", "version-1"} <= world.function.aliases.keys()
    world.wish(Specific(frozenset({1})))
    reconcile(world.gateway)
    assert world.live_image == _image(1)
