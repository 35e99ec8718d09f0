"""What to do next for a model: a pure function of what is aspired and what is seen.

Source of the idea: core/aspired_version_policy.h, GetNextAction. An alias only ever moves to a
function version that answered, and the version before stays until another one is warm.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from lambda_serving.release.deployment import (
    LIVE,
    Alias,
    Deployment,
    FunctionVersion,
    Progress,
    Record,
    State,
)

__all__ = [
    "Action",
    "Build",
    "Expose",
    "Fail",
    "Halt",
    "Point",
    "Publish",
    "Retire",
    "Shift",
    "Update",
    "Wait",
    "Wake",
    "Warm",
    "Withdraw",
    "next_action",
]

KEPT_FOR_ROLLBACK = 1
"""Function versions that nobody aspires to any more, the newest ones."""
BUILDS = 2
"""Times that the image of a version is asked for, each with two retries of Lambda's."""
BUILD_SECONDS = 3000.0
"""After this long a build that was asked for has ended: three times Lambda's quarter of an hour,
and the minutes that it waits between."""
_UNDER_WAY = Progress()
_LOOK_SECONDS = 5.0  # between two looks at what Lambda is at, of which no event tells


@dataclass(frozen=True, slots=True)
class Build:
    """Compile the version and make its image; the outcome is recorded."""

    version: int


@dataclass(frozen=True, slots=True)
class Update:
    """Give the function the version's image."""

    version: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish the function as it is, with the version's image."""

    version: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Others are at it: look again after so many seconds, or when an event says so."""

    what: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Warm:
    """Have the function version answer; the outcome is recorded.

    It answered so many golden pairs before, as it should, and is asked the next ones.
    """

    version: int
    function_version: int
    answered: int = 0


@dataclass(frozen=True, slots=True)
class Wake:
    """Have Lambda make ready a function version that it put to sleep."""

    function_version: int


@dataclass(frozen=True, slots=True)
class Fail:
    """Record that the version will not do, and why; it is not tried again as it is."""

    version: int
    error: str


@dataclass(frozen=True, slots=True)
class Point:
    """Move all traffic of the alias `live` at once."""

    function_version: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Have CodeDeploy move the traffic of the alias `live` bit by bit."""

    version: int
    function_version: int


@dataclass(frozen=True, slots=True)
class Halt:
    """Have CodeDeploy stop, and move the traffic back."""


@dataclass(frozen=True, slots=True)
class Expose:
    """Give a version or a label its alias, there, and its routes."""

    alias: str
    function_version: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take the routes and the alias of a version or a label away."""

    alias: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Delete a function version, and its image if no other one has it."""

    function_version: int


Action = (
    Build
    | Update
    | Publish
    | Wait
    | Warm
    | Wake
    | Fail
    | Point
    | Shift
    | Halt
    | Expose
    | Withdraw
    | Retire
)


def next_action(seen: Deployment) -> Action | None:
    """The next step towards the aspired versions, largest first; None when there is none.

    A version that is not complete, or that failed as it is, is passed over. Without any version
    to serve, nothing is changed or deleted.
    """
    serving: FunctionVersion | None = None
    for version in seen.aspired:
        if step := _step(version, seen):
            return step
        ready = seen.ready(version)
        if ready and serving is None:
            serving = ready
            addresses = _addresses(version, seen)
            # before the switch, so that the version before is never without an address
            exposure: Action | None = next(_exposures(addresses, seen), None)
            if step := exposure or _switch(version, ready, seen):
                return step
    if serving is None:
        return None
    addresses = _addresses(serving.origin.model_version, seen)
    rest: Iterator[Action] = chain(
        _exposures(addresses, seen), _withdrawals(addresses, seen), _retirements(seen)
    )
    return next(rest, None)


def _step(version: int, seen: Deployment) -> Action | None:
    """What a version lacks of being ready."""
    if version not in seen.versions:
        seconds = seen.settling.get(version)
        return None if seconds is None else Wait(f"version {version} is being copied", seconds)
    record, published = seen.record(version), seen.published(version)
    if record and record.error is not None:
        return None
    if record is None or record.image is None:
        return _building(version, record, seen)
    if published is None:
        return _publication(version, record.image, seen)
    return _warming(version, record, published, seen)


def _building(version: int, record: Record | None, seen: Deployment) -> Action:
    if record is None or record.asked is None:
        return Build(version)
    if seen.now < record.asked + BUILD_SECONDS:
        return Wait(f"the image of version {version} is being built")
    if record.builds < BUILDS:
        return Build(version)
    return Fail(
        version,
        f"Its image was asked for {record.builds} times, and no build came to an end. The log of"
        " the build function says why; it may need more memory",
    )


def _publication(version: int, image: str, seen: Deployment) -> Action:
    if seen.updating:
        return Wait("Lambda updates the function", _LOOK_SECONDS)
    return Publish(version) if seen.code == image else Update(version)


def _warming(
    version: int, record: Record, published: FunctionVersion, seen: Deployment
) -> Action | None:
    match published.state:
        case State.PENDING:
            return Wait(f"Lambda prepares function version {published.number}", _LOOK_SECONDS)
        case State.FAILED:
            return Fail(version, f"Lambda could not start it: {published.reason}")
        case _ if record.warm != published.number:
            return Warm(version, published.number, record.answers_of(published))
        case State.INACTIVE if published.number not in seen.addressed():
            return Wake(published.number)
    return None


def _switch(version: int, ready: FunctionVersion, seen: Deployment) -> Action | None:
    """The way of all traffic to a version that is ready: at once, and back at once, too."""
    live = seen.aliases.get(LIVE, Alias(0))
    if live.function_version == ready.number and not live.shares:
        return None
    if not seen.shifting or ready.number <= live.function_version:
        under_way = _UNDER_WAY in seen.shifts.values()
        return Halt() if under_way else Point(ready.number)
    record = seen.record(version)
    shift = seen.shifts.get(record.shift or "") if record else None
    if shift is None:
        return Shift(version, ready.number)
    if shift.failed is not None:
        return Fail(version, f"CodeDeploy moved the traffic back: {shift.failed}")
    if not shift.done:
        return Wait(f"CodeDeploy moves traffic to version {version}")
    return Point(ready.number)


def _addresses(serving: int, seen: Deployment) -> Mapping[str, FunctionVersion | None]:
    """The aliases that there should be beside `live`; None for a version that is not ready.

    The version that is served is reached through `live`.
    """
    versions = {f"version-{each}": each for each in seen.aspired if each != serving}
    labels = {
        f"label-{label}": version
        for label, version in seen.labels.items()
        if version in seen.aspired
    }
    return {name: seen.ready(version) for name, version in {**versions, **labels}.items()}


def _exposures(
    addresses: Mapping[str, FunctionVersion | None], seen: Deployment
) -> Iterator[Expose]:
    """What could not be had a moment ago is left to a later run: it holds up nothing else."""
    if seen.unseen:
        return
    for name, ready in addresses.items():
        if name in seen.refused:
            continue
        alias = seen.aliases.get(name)
        if ready and not (
            alias and alias.function_version == ready.number and name in seen.exposed
        ):
            yield Expose(name, ready.number)


def _withdrawals(
    addresses: Mapping[str, FunctionVersion | None], seen: Deployment
) -> Iterator[Withdraw]:
    """What a release exposed, and nobody's alias but its own."""
    if seen.unseen:
        return
    for name in sorted({*seen.aliases, *seen.exposed, *seen.routed} - {*addresses, LIVE}):
        if name.startswith(("version-", "label-")):
            yield Withdraw(name)


def _retirements(seen: Deployment) -> Iterator[Retire]:
    """Deletions, oldest first: never what is addressed, aspired, or kept for going back."""
    current = {each.number for version in seen.aspired if (each := seen.published(version))}
    numbers = {each.number for each in seen.function_versions}
    unwanted = sorted(numbers - current - seen.addressed())
    answered = {record.warm for record in seen.records.values() if record.error is None}
    kept = [number for number in unwanted if number in answered][-KEPT_FOR_ROLLBACK:]
    yield from (Retire(number) for number in unwanted if number not in kept)
