"""The next step for a model: each situation, and that the steps end well from any."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.release.actions import (
    Action,
    Build,
    Fail,
    Point,
    Publish,
    Retire,
    Update,
    Wait,
    Warm,
    next_action,
)
from lambda_serving.release.deployment import Deployment, FunctionVersion, Origin, Record, State


def _built(version: int, warm: int | None = None) -> Record:
    return Record(f"m{version}", "base", image=f"i{version}", warm=warm)


def _published(number: int, version: int, state: State = State.ACTIVE) -> FunctionVersion:
    return FunctionVersion(number, Origin(version, f"m{version}", f"i{version}"), state, "boom")


def _seen(
    *versions: int,
    records: dict[int, Record] | None = None,
    published: Sequence[FunctionVersion] = (),
    live: int | None = None,
) -> Deployment:
    manifests = {version: f"m{version}" for version in versions}
    return Deployment("base", manifests, records or {}, published, live=live)


_LIVE = _seen(1, 2, records={1: _built(1, warm=7)}, published=[_published(7, 1)], live=7)


@pytest.mark.parametrize(
    ("aspired", "seen", "action"),
    [
        ([], _seen(), None),
        ([1], _seen(), None),
        ([1], _seen(1), Build(1)),
        ([1], _seen(1, records={1: Record("other", "base", image="i")}), Build(1)),
        ([1], _seen(1, records={1: Record("m1", "other", image="i")}), Build(1)),
        ([1], _seen(1, records={1: Record("m1", "base")}), Build(1)),
        ([1], _seen(1, records={1: Record("m1", "base", error="corrupt")}), None),
        ([1], _seen(1, records={1: _built(1)}), Update(1)),
        ([1], replace(_seen(1, records={1: _built(1)}), code="i1"), Publish(1)),
        ([1], replace(_seen(1, records={1: _built(1)}), code="i1", updating=True), Wait()),
        (
            [1],
            _seen(1, records={1: _built(1)}, published=[_published(7, 1, State.PENDING)]),
            Wait(),
        ),
        (
            [1],
            _seen(1, records={1: _built(1)}, published=[_published(7, 1, State.FAILED)]),
            Fail(1, "Lambda could not start it: boom"),
        ),
        ([1], _seen(1, records={1: _built(1)}, published=[_published(7, 1)]), Warm(1, 7)),
        (
            [1],
            _seen(1, records={1: _built(1, warm=6)}, published=[_published(7, 1)]),
            Warm(1, 7),
        ),
        ([1], _seen(1, records={1: _built(1, warm=7)}, published=[_published(7, 1)]), Point(7)),
        ([1], _LIVE, None),
        ([2], _LIVE, Build(2)),
        ([3], _LIVE, None),
        ([], _LIVE, None),
    ],
)
def test_next_action_is(aspired: list[int], seen: Deployment, action: Action | None) -> None:
    assert next_action(aspired, seen) == action


def test_largest_version_that_does_is_served_and_smaller_ones_follow() -> None:
    records = {3: replace(_built(3), error="corrupt"), 2: _built(2, warm=8)}
    seen = _seen(1, 2, 3, records=records, published=[_published(8, 2)])
    assert next_action([3, 2, 1], seen) == Point(8)
    assert next_action([3, 2, 1], replace(seen, live=8)) == Build(1)


def test_version_asked_back_is_pointed_to_at_once() -> None:
    records = {1: _built(1, warm=7), 2: _built(2, warm=8)}
    seen = _seen(1, 2, records=records, published=[_published(7, 1), _published(8, 2)], live=8)
    assert next_action([1], seen) == Point(7)


def test_newest_of_the_unwanted_stays_for_going_back() -> None:
    records = {4: _built(4, warm=9)}
    published = [_published(number, number - 5) for number in (6, 7, 8, 9)]
    seen = _seen(1, 2, 3, 4, records=records, published=published, live=9)
    assert next_action([4], seen) == Retire(6)
    assert next_action([4], replace(seen, function_versions=published[1:])) == Retire(7)
    assert next_action([4], replace(seen, function_versions=published[2:])) is None


@pytest.mark.parametrize("origin", [Origin(3, "sha256:ab", "sha256:cd"), Origin(0, "m", "i")])
def test_origin_is_read_back_from_its_description(origin: Origin) -> None:
    assert Origin.of(str(origin)) == origin


@pytest.mark.parametrize(
    "description", ["", "first version", "model version x, manifest m, image i"]
)
def test_description_of_somebody_else_has_no_origin(description: str) -> None:
    assert Origin.of(description) is None


_DIGESTS = st.sampled_from(["m1", "m2", "other"])
_RECORDS = st.builds(
    Record,
    manifest=_DIGESTS,
    base=st.sampled_from(["base", "older"]),
    image=st.none() | st.sampled_from(["i1", "i2"]),
    warm=st.none() | st.integers(1, 6),
    error=st.none() | st.just("corrupt"),
)
_FUNCTION_VERSIONS = st.lists(
    st.builds(
        FunctionVersion,
        number=st.integers(1, 6),
        origin=st.builds(Origin, st.integers(1, 3), _DIGESTS, st.sampled_from(["i1", "i2"])),
        state=st.sampled_from(State),
    ),
    unique_by=lambda each: each.number,
)


@st.composite
def _deployments(draw: st.DrawFn) -> Deployment:
    """Anything that a look could show, the alias on a version that exists or on none."""
    published = draw(_FUNCTION_VERSIONS)
    numbers = [each.number for each in published]
    return Deployment(
        base="base",
        manifests=draw(st.dictionaries(st.integers(1, 3), _DIGESTS)),
        records=draw(st.dictionaries(st.integers(1, 3), _RECORDS)),
        function_versions=published,
        code=draw(st.sampled_from(["i1", "i2", "i3", "else"])),
        updating=draw(st.booleans()),
        live=draw(st.none() | st.sampled_from(numbers)) if numbers else None,
    )


@settings(max_examples=1000)
@given(
    seen=_deployments(),
    aspired=st.lists(st.integers(1, 3), unique=True).map(lambda found: sorted(found)[::-1]),
    outcomes=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_steps_end_and_the_alias_only_moves_to_what_is_warm(
    seen: Deployment, aspired: list[int], outcomes: list[bool]
) -> None:
    """Building or warming version v goes well as `outcomes` say, whatever was there before."""
    good = {version: outcomes[version - 1] for version in (1, 2, 3)}
    start = seen
    for _ in range(60):
        action = next_action(aspired, seen)
        if action is None:
            break
        after = _applied(action, seen, good)
        if after.live != seen.live:
            warm = [each for each in after.records.values() if each.warm == after.live]
            assert any(each.error is None for each in warm)
        if seen.live is not None:
            assert after.live in {each.number for each in after.function_versions}
        seen = after
    else:
        pytest.fail(f"no end from {start}")
    complete = [version for version in aspired if version in seen.manifests]
    records = {version: seen.record(version) for version in complete}
    assert all(records.values())
    good_ones = [version for version, record in records.items() if record and not record.error]
    if good_ones:  # the largest of them is served
        published = seen.published(good_ones[0])
        assert published is not None
        assert seen.live == published.number


def _applied(action: Action, seen: Deployment, good: dict[int, bool]) -> Deployment:
    """What is seen after an action that Lambda carries out."""
    records, published = dict(seen.records), list(seen.function_versions)
    match action:
        case Build(version):
            built = Record(seen.manifests[version], seen.base, image=f"i{version}")
            records[version] = built if good[version] else replace(built, image=None, error="bad")
        case Update(version):
            seen = replace(seen, code=records[version].image or "", updating=True)
        case Publish(version):
            number = max((each.number for each in published), default=0) + 1
            origin = Origin(version, records[version].manifest, records[version].image or "")
            published.append(FunctionVersion(number, origin, State.PENDING))
        case Wait():
            seen = replace(seen, updating=False)
            published = [
                replace(each, state=State.ACTIVE) if each.state is State.PENDING else each
                for each in published
            ]
        case Warm(version, number) if good[version]:
            records[version] = replace(records[version], warm=number)
        case Warm(version):
            records[version] = replace(records[version], error="no answer")
        case Fail(version, error):
            records[version] = replace(records[version], error=error)
        case Point(number):
            seen = replace(seen, live=number)
        case Retire(number):
            published = [each for each in published if each.number != number]
    return replace(seen, records=records, function_versions=published)
