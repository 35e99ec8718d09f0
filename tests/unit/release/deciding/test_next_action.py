"""The next step for a model: each situation, and that the steps end well from any."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.errors import PermissionDenied
from lambda_serving.release.deciding.actions import (
    Action,
    Build,
    Expose,
    Fail,
    Halt,
    Point,
    Publish,
    Retire,
    Shift,
    Update,
    Wait,
    Wake,
    Warm,
    Withdraw,
)
from lambda_serving.release.deciding.model_state import (
    LIVE,
    Alias,
    Deployment,
    FunctionVersion,
    Origin,
    Progress,
    Record,
    Refusal,
    State,
)
from lambda_serving.release.deciding.next_action import next_action, plan
from lambda_serving.release.deciding.next_step_of_version import BUILD_SECONDS, BUILDS


def _built(version: int, warm: int | None = None, **more: Any) -> Record:
    return replace(Record(f"m{version}", "base", image=f"i{version}", warm=warm), **more)


def _published(number: int, version: int, state: State = State.ACTIVE) -> FunctionVersion:
    origin = Origin(version, f"m{version}", f"i{version}")
    return FunctionVersion(number, origin, state, refusal=Refusal("InvalidImage", "boom"))


def _seen(
    *versions: int,
    aspired: Sequence[int] | None = None,
    records: Mapping[int, Record] | None = None,
    published: Sequence[FunctionVersion] = (),
    live: int | None = None,
    **more: Any,
) -> Deployment:
    """An observed state; by default the policy aspires to the largest version."""
    seen = Deployment(
        "base",
        {version: f"m{version}" for version in versions},
        [max(versions)] if aspired is None else aspired,
        records=records or {},
        function_versions=published,
        aliases={LIVE: Alias(live)} if live else {},
    )
    return replace(seen, **more)


_OF_1: dict[str, Any] = {
    "records": {1: _built(1, warm=7, given="then")},
    "published": [_published(7, 1)],
    "live": 7,
}
_ASKED = Record("m1", "base", asked=100, builds=1)


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (_seen(aspired=[]), None),
        (_seen(aspired=[1]), None),
        (_seen(aspired=[1], settling={1: 12.5}), Wait("version 1 is being copied", 12.5)),
        (_seen(1), Build(1)),
        (_seen(1, records={1: Record("other", "base", image="i")}), Build(1)),
        (_seen(1, records={1: Record("m1", "other", image="i")}), Build(1)),
        (_seen(1, records={1: Record("m1", "base")}), Build(1)),
        (_seen(1, records={1: Record("m1", "base", error="corrupt")}), None),
        (
            _seen(1, records={1: _ASKED}, now=99 + BUILD_SECONDS),
            Wait("the image of version 1 is being built"),
        ),
        (_seen(1, records={1: _ASKED}, now=101 + BUILD_SECONDS), Build(1)),
        (_seen(1, records={1: _built(1)}), Update(1)),
        (_seen(1, records={1: _built(1)}, code="i1"), Update(1)),
        (_seen(1, records={1: _built(1, given="then")}, code="i1"), Publish(1)),
        (
            _seen(1, records={1: _built(1)}, code="i1", updating=True),
            Wait("Lambda updates the function", 5),
        ),
        (
            _seen(1, records={1: _built(1)}, published=[_published(7, 1, State.PENDING)]),
            Wait("Lambda prepares function version 7", 5),
        ),
        (
            _seen(1, records={1: _built(1)}, published=[_published(7, 1, State.FAILED)]),
            Fail(1, "Lambda could not start it: boom (InvalidImage)"),
        ),
        (_seen(1, records={1: _built(1)}, published=[_published(7, 1)]), Warm(1, 7)),
        (_seen(1, records={1: _built(1, warm=6)}, published=[_published(7, 1)]), Warm(1, 7)),
        (_seen(1, records={1: _built(1, warm=7)}, published=[_published(7, 1)]), Point(7)),
        (_seen(1, **_OF_1), None),
        (_seen(1, 2, **_OF_1), Build(2)),
        (_seen(1, 2, aspired=[3], **_OF_1), None),
        (_seen(1, 2, aspired=[], **_OF_1), None),
    ],
)
def test_next_action_is(seen: Deployment, action: Action | None) -> None:
    assert next_action(seen) == action


def test_version_whose_builds_never_end_fails() -> None:
    record = replace(_ASKED, builds=BUILDS)
    action = next_action(_seen(1, records={1: record}, now=101 + BUILD_SECONDS))
    assert isinstance(action, Fail)
    assert "no build finished" in action.error


def test_largest_ready_version_is_served_and_smaller_ones_follow() -> None:
    records = {3: _built(3, error="corrupt"), 2: _built(2, warm=8)}
    seen = _seen(1, 2, 3, aspired=[3, 2, 1], records=records, published=[_published(8, 2)])
    assert next_action(seen) == Point(8)
    assert next_action(replace(seen, aliases={LIVE: Alias(8)})) == Build(1)


_BOTH: dict[str, Any] = {
    "records": {1: _built(1, warm=7), 2: _built(2, warm=8)},
    "published": [_published(7, 1), _published(8, 2)],
}


def test_version_asked_back_is_pointed_to_at_once_and_takes_all_traffic() -> None:
    seen = _seen(1, 2, aspired=[1], live=8, shifting=True, **_BOTH)
    assert next_action(seen) == Point(7)
    moving = replace(seen, shifts={"d-1": Progress()})
    assert [*plan(moving)] == [Point(7), Halt()]
    in_part = {LIVE: Alias(7, shares=frozenset({8}))}
    assert next_action(replace(seen, aliases=in_part)) == Point(7)


def test_version_asked_back_is_woken_first() -> None:
    published = [_published(7, 1, State.INACTIVE), _published(8, 2)]
    seen = _seen(1, 2, aspired=[1], live=8, **(_BOTH | {"published": published}))
    assert next_action(seen) == Wake(7)
    assert next_action(replace(seen, aliases={LIVE: Alias(7)})) is None  # sleeps in peace


def test_function_with_other_settings_is_published_again() -> None:
    seen = _seen(1, code="i1", **_OF_1)
    assert next_action(replace(seen, settings="more memory")) == Publish(1)


@pytest.mark.parametrize(
    ("moving", "action"),
    [
        ({}, Shift(2, 8)),
        ({"d-1": Progress()}, Wait("CodeDeploy moves traffic to version 2")),
        ({"d-1": Progress(done=True)}, Point(8)),
        (
            {"d-1": Progress(failed=Refusal("ALARM_ACTIVE", "alarm"))},
            Fail(2, "CodeDeploy moved the traffic back: alarm (ALARM_ACTIVE)"),
        ),
        (
            {"d-1": Progress(failed=Refusal("THROTTLED", "not now"))},
            Wait("version 2 is tried again later: not now (THROTTLED)", 5),
        ),
    ],
)
def test_traffic_moves_by_code_deploy(moving: dict[str, Progress], action: Action) -> None:
    records = {1: _built(1, warm=7), 2: _built(2, warm=8, shift="d-1" if moving else None)}
    seen = _seen(1, 2, live=7, shifting=True, shifts=moving, **(_BOTH | {"records": records}))
    assert next_action(seen) == action


def test_version_before_gets_an_address_before_the_switch() -> None:
    seen = _seen(1, 2, aspired=[2, 1], live=7, **_BOTH)
    assert [*plan(seen)] == [Expose("version-1", 7), Point(8)]
    exposed = replace(
        seen, aliases={LIVE: Alias(8), "version-1": Alias(7)}, exposed=frozenset({"version-1"})
    )
    assert next_action(exposed) is None
    assert next_action(replace(exposed, exposed=frozenset())) == Expose("version-1", 7)


@pytest.mark.parametrize(
    "lack",
    [
        {"refused": frozenset({"version-1", "label-old"})},
        {"unseen": PermissionDenied("not allowed"), "routed": frozenset({"label-gone"})},
    ],
)
def test_refused_address_holds_up_nothing(lack: dict[str, Any]) -> None:
    seen = _seen(1, 2, aspired=[2, 1], live=7, labels={"old": 1}, **_BOTH, **lack)
    assert [*plan(seen)] == [Point(8)]


def test_routes_without_an_alias_are_withdrawn() -> None:
    seen = _seen(1, **_OF_1, routed=frozenset({"label-gone", "version-1"}))
    assert [*plan(seen)] == [Withdraw("label-gone"), Withdraw("version-1")]


def test_golden_answers_given_before_are_not_asked_for_again() -> None:
    record = _built(1, asked_of=7, answered=40)
    assert next_action(_seen(1, records={1: record}, published=[_published(7, 1)])) == Warm(
        1, 7, 40
    )
    assert next_action(_seen(1, records={1: record}, published=[_published(8, 1)])) == Warm(1, 8)


def test_labels_follow_the_policy_and_those_of_others_stay() -> None:
    seen = _seen(1, 2, aspired=[2, 1], live=8, labels={"stable": 1, "new": 2, "old": 0}, **_BOTH)
    aliases = {LIVE: Alias(8), "version-2": Alias(8), "label-gone": Alias(7), "team": Alias(7)}
    assert {*plan(replace(seen, aliases=aliases))} == {
        Expose("version-1", 7),
        Expose("label-stable", 7),
        Expose("label-new", 8),
        Withdraw("version-2"),
        Withdraw("label-gone"),
    }


def test_label_of_a_version_that_fails_stays_where_it_is() -> None:
    records = {1: _built(1, warm=7), 2: _built(2, warm=8), 3: _built(3, error="corrupt")}
    seen = _seen(1, 2, 3, aspired=[3, 2], labels={"new": 3}, **(_BOTH | {"records": records}))
    aliases = {LIVE: Alias(8), "label-new": Alias(8)}
    assert next_action(replace(seen, aliases=aliases, exposed=frozenset({"label-new"}))) is None


def test_newest_of_the_unwanted_that_answered_stays_for_going_back() -> None:
    """Number 8, of version 3, never answered."""
    records = {1: _built(1, warm=6), 2: _built(2, warm=7), 3: _built(3), 4: _built(4, warm=9)}
    published = [_published(number, number - 5) for number in (6, 7, 8, 9)]
    seen = _seen(1, 2, 3, 4, records=records, published=published, live=9)
    assert [*plan(seen)] == [Retire(6), Retire(8)]
    addressed = {LIVE: Alias(9), "team": Alias(8, shares=frozenset({6}))}
    assert not {Retire(6), Retire(8)} & {*plan(replace(seen, aliases=addressed))}


def test_plan_of_a_new_version_is_told_to_its_end() -> None:
    steps = [Build(2), Update(2), Publish(2), Warm(2, 8), Point(8)]
    assert [*plan(_seen(1, 2, **_OF_1))] == steps


@pytest.mark.parametrize("origin", [Origin(3, "sha256:ab", "sha256:cd"), Origin(0, "m", "i")])
def test_origin_is_read_back_from_its_description(origin: Origin) -> None:
    assert Origin.of(str(origin)) == origin


@pytest.mark.parametrize(
    "description", ["", "first version", "model version x, manifest m, image i"]
)
def test_description_of_somebody_else_has_no_origin(description: str) -> None:
    assert Origin.of(description) is None


_CONTENTS = st.sampled_from(["m1", "m2", "m3", "other"])
_IMAGES = st.sampled_from(["i1", "i2", "i3"])
_ALIASES = st.sampled_from(["version-1", "version-2", "label-a", "label-b", "team"])
_MADE = st.sampled_from(["", "1000"])
_TIMES = st.sampled_from(["then", "now"])
_REFUSALS = st.sampled_from([Refusal("InvalidImage", "boom"), Refusal("InternalError", "boom")])
_RECORDS = st.builds(
    Record,
    content=_CONTENTS,
    base=st.sampled_from(["base", "older"]),
    image=st.none() | _IMAGES,
    warm=st.none() | st.integers(1, 6),
    made=_MADE,
    given=st.none() | _TIMES,
    tries=st.integers(0, 9),
    error=st.none() | st.just("corrupt"),
    asked=st.none() | st.floats(0, 2 * BUILD_SECONDS),
    builds=st.integers(0, BUILDS + 1),
    shift=st.none() | st.sampled_from(["d-1", "d-2"]),
)
_FUNCTION_VERSIONS = st.lists(
    st.builds(
        FunctionVersion,
        number=st.integers(1, 6),
        origin=st.builds(Origin, st.integers(1, 3), _CONTENTS, _IMAGES, _MADE),
        state=st.sampled_from(State),
        settings=st.sampled_from(["", "before"]),
        refusal=_REFUSALS,
    ),
    unique_by=lambda each: each.number,
    min_size=1,
)
_ENDED = [Progress(failed=Refusal(code, "because")) for code in ("ALARM_ACTIVE", "THROTTLED")]
_MOVING = st.sampled_from([Progress(), Progress(done=True), *_ENDED])


@st.composite
def _deployments(draw: st.DrawFn) -> Deployment:
    """Any state that could be observed; aliases point to versions that exist."""
    published = draw(_FUNCTION_VERSIONS)
    numbers = st.sampled_from([each.number for each in published])
    shares = st.frozensets(numbers, max_size=1)
    versions = draw(st.dictionaries(st.integers(1, 3), _CONTENTS))
    aliases = draw(st.dictionaries(_ALIASES, st.builds(Alias, numbers)))
    return Deployment(
        base="base",
        versions=versions,
        aspired=sorted(draw(st.sets(st.integers(1, 3))), reverse=True),
        labels=draw(st.dictionaries(st.sampled_from("ab"), st.integers(1, 3))),
        settling=draw(st.dictionaries(st.integers(4, 5), st.floats(0.1, 60))),
        records=draw(st.dictionaries(st.integers(1, 3), _RECORDS)),
        function_versions=published,
        code=draw(st.sampled_from(["i1", "i2", "i3", "else"])),
        updating=draw(st.booleans()),
        refusal=draw(st.none() | _REFUSALS),
        modified=draw(_TIMES),
        provisioning=draw(st.booleans()),
        aliases={**aliases, LIVE: draw(st.builds(Alias, numbers, shares=shares))},
        exposed=frozenset(draw(st.sets(_ALIASES))),
        routed=frozenset(draw(st.sets(_ALIASES))),
        shifting=draw(st.booleans()),
        shifts={name: draw(_MOVING) for name in ("d-1", "d-2")},
        now=draw(st.floats(0, 2 * BUILD_SECONDS)),
    )


class _Fate(Enum):
    """What goes wrong with a version, if anything does."""

    GOOD = "good"
    UNBUILT = "it cannot be built"
    REFUSED = "Lambda fails to update the function with it"
    BROKEN = "Lambda fails to start it"
    MUTE = "it does not answer"


_FAILING: Mapping[type, _Fate] = {Build: _Fate.UNBUILT, Warm: _Fate.MUTE}


@settings(max_examples=300, deadline=None)
@given(
    start=_deployments(),
    fates=st.fixed_dictionaries({version: st.sampled_from(_Fate) for version in (1, 2, 3)}),
)
def test_steps_end_and_an_alias_only_moves_to_what_is_warm(
    start: Deployment, fates: dict[int, _Fate]
) -> None:
    """Whatever was there before."""
    seen = start
    for _ in range(100):
        action = next_action(seen)
        if action is None:
            break
        after = _applied(action, seen, fates)
        _check_step(seen, after)
        seen = after
    else:
        pytest.fail(f"no end from {start}")
    _check_end(seen)


def _check_step(seen: Deployment, after: Deployment) -> None:
    warm = {found.number for version in after.records if (found := _warm(version, after))}
    moved = {name for name, alias in after.aliases.items() if alias != seen.aliases.get(name)}
    for name in moved:  # or all traffic stays where most of it was
        number = after.aliases[name].function_version
        assert number in warm or number == seen.aliases[name].function_version
    existing = {each.number for each in after.function_versions}
    assert after.addressed() <= existing
    assert {name for name in ("team", LIVE) if name in seen.aliases} <= after.aliases.keys()


def _warm(version: int, seen: Deployment) -> FunctionVersion | None:
    return seen.ready(version) or seen.answered(version)


def _check_end(seen: Deployment) -> None:
    """Checks that the largest version that did not fail is served, and where the others are."""
    complete = [version for version in seen.aspired if version in seen.versions]
    records = {version: seen.record(version) for version in complete}
    assert all(records.values())
    good = [version for version, record in records.items() if record and not record.error]
    ready = {version: seen.ready(version) for version in good}
    numbers = {version: found.number for version, found in ready.items() if found}
    assert numbers.keys() == set(good)
    if good:
        assert seen.aliases[LIVE] == Alias(numbers[good[0]])
        for version in good[1:]:
            assert seen.aliases[f"version-{version}"].function_version == numbers[version]
        for label, version in seen.labels.items():
            if version in good:
                assert seen.aliases[f"label-{label}"].function_version == numbers[version]


def _applied(action: Action, seen: Deployment, fates: Mapping[int, _Fate]) -> Deployment:
    """The state after an action that AWS has begun, before it is finished."""
    match action:
        case Build(version) | Warm(version, _) if fates[version] is _FAILING[type(action)]:
            return _recorded(seen, version, error="bad")
        case Build(version):
            return _recorded(seen, version, image=f"i{version}")
        case Update(version):
            return _updated(seen, version, is_refused=fates[version] is _Fate.REFUSED)
        case Publish(version):
            [*before, made] = action.expected(seen).function_versions
            state = State.FAILED if fates[version] is _Fate.BROKEN else State.PENDING
            pending = replace(made, state=state, refusal=Refusal("InvalidImage", "bad"))
            return replace(seen, function_versions=[*before, pending])
        case Shift(version, _):
            record = replace(seen.records[version], shift="d-3")
            return replace(
                seen,
                records={**seen.records, version: record},
                shifts={**seen.shifts, "d-3": Progress()},
            )
    return _later(seen, fates) if isinstance(action, Wait) else action.expected(seen)


def _recorded(seen: Deployment, version: int, **more: Any) -> Deployment:
    record = Record(seen.versions[version], seen.base, **more)
    return replace(seen, records={**seen.records, version: record})


def _updated(seen: Deployment, version: int, *, is_refused: bool) -> Deployment:
    after = Update(version).expected(seen)
    record = replace(after.records[version], tries=after.records[version].tries + 1)
    after = replace(after, records={**after.records, version: record})
    if is_refused:
        return replace(after, code=seen.code, refusal=Refusal("InvalidImage", "bad"))
    return replace(after, updating=True)


def _later(seen: Deployment, fates: Mapping[int, _Fate]) -> Deployment:
    """The state after everything pending has finished or failed."""
    started = [_started(each) for each in seen.function_versions]
    moved = {
        name: Progress(done=True) if shift == Progress() else shift
        for name, shift in seen.shifts.items()
    }
    is_any_good = any(fate is not _Fate.UNBUILT for fate in fates.values())
    return replace(
        seen,
        updating=False,
        provisioning=False,
        function_versions=started,
        shifts=moved,
        now=seen.now + BUILD_SECONDS if is_any_good else seen.now + 2 * BUILD_SECONDS,
    )


def _started(version: FunctionVersion) -> FunctionVersion:
    passes = version.state is State.FAILED and not version.refusal.condemns
    if passes or version.state in {State.PENDING, State.OTHER}:
        return replace(version, state=State.ACTIVE)
    return version
