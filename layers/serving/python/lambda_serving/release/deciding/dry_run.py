"""What a release would do from here, as if each action went well: nothing is changed."""

from collections.abc import Iterator
from dataclasses import replace

from lambda_serving.release.deciding.actions import (
    Action,
    Build,
    Expose,
    Fail,
    Halt,
    Point,
    Publish,
    Retire,
    Retry,
    Shift,
    Update,
    Wait,
    Wake,
    Warm,
    Withdraw,
    next_action,
)
from lambda_serving.release.deciding.model_state import (
    LIVE,
    Alias,
    Deployment,
    FunctionVersion,
    Origin,
    Progress,
    Record,
    State,
)

__all__ = ["expected", "plan"]


def plan(seen: Deployment) -> Iterator[Action]:
    """The actions in their order; a `Wait` is the last, as nobody knows what comes of it."""
    while action := next_action(seen):
        yield action
        if isinstance(action, Wait):
            return
        seen = expected(action, seen)


def expected(action: Action, seen: Deployment) -> Deployment:  # noqa: C901, PLR0911 a table
    """What is seen after an action that went well and that nobody had to wait for."""
    match action:
        case Build(version):
            image = f"image of version {version}"
            return _recorded(seen, version, Record(seen.versions[version], seen.base, image))
        case Update(version):
            return _updated(seen, version)
        case Publish(version):
            return _published(seen, version)
        case Warm(version, number):
            return _warmed(seen, version, number)
        case Wake(number):
            awake = [
                replace(each, state=State.ACTIVE) if each.number == number else each
                for each in seen.function_versions
            ]
            return replace(seen, function_versions=awake)
        case Fail(version, error):
            return _recorded(seen, version, replace(seen.records[version], error=error))
        case Point(number) | Shift(_, number):
            return replace(seen, aliases={**seen.aliases, LIVE: Alias(number)})
        case Expose(name, number):
            aliases = {**seen.aliases, name: Alias(number)}
            return replace(seen, aliases=aliases, exposed={*seen.exposed, name})
        case Withdraw(name):
            aliases = {each: alias for each, alias in seen.aliases.items() if each != name}
            exposed, routed = seen.exposed - {name}, seen.routed - {name}
            return replace(seen, aliases=aliases, exposed=exposed, routed=routed)
        case Retire(number) | Retry(_, number):
            left = [each for each in seen.function_versions if each.number != number]
            return replace(seen, function_versions=left)
        case Halt():
            return _halted(seen)
        case Wait():
            return seen


def _recorded(seen: Deployment, version: int, record: Record) -> Deployment:
    return replace(seen, records={**seen.records, version: record})


def _updated(seen: Deployment, version: int) -> Deployment:
    record = replace(seen.records[version], given="now")
    seen = replace(seen, code=record.image or "", refusal=None, modified="now")
    return _recorded(seen, version, record)


def _warmed(seen: Deployment, version: int, number: int) -> Deployment:
    [made] = [each.origin.made for each in seen.function_versions if each.number == number]
    record = replace(seen.records[version], warm=number, made=made, tries=0, shift=None)
    return _recorded(seen, version, record)


def _halted(seen: Deployment) -> Deployment:
    shifts = {name: shift for name, shift in seen.shifts.items() if shift != Progress()}
    return replace(seen, shifts=shifts)


def _published(seen: Deployment, version: int) -> Deployment:
    record = seen.records[version]
    number = 1 + max((each.number for each in seen.function_versions), default=0)
    made = FunctionVersion(
        number,
        Origin(version, record.content, record.image or ""),
        State.ACTIVE,
        seen.settings,
    )
    return replace(seen, function_versions=[*seen.function_versions, made])
