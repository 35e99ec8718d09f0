"""What to do next for a model: a pure function of what is aspired and what is seen.

Source of the idea: core/aspired_version_policy.h, GetNextAction. An alias only ever moves to a
function version that answered, and the version before stays until another one is warm. What one
version waits for holds up no other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from lambda_serving.release.deciding.model_state import (
    LIVE,
    Alias,
    Deployment,
    FunctionVersion,
    Progress,
    Record,
    Refusal,
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
    "Retry",
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
UPDATES = 3
"""Times that Lambda is given an image which it refuses, if nothing tells whose the refusal is."""
_UNDER_WAY = Progress()
_LOOK_SECONDS = 5.0  # between two looks at what Lambda is at, of which no event tells
_LONGEST_LOOK_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 300.0


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
class Retry:
    """Delete a function version that Lambda could not start, for a reason which passes."""

    version: int
    function_version: int


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
    | Retry
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
    if back := _way_back(seen):
        return back
    waits: dict[int, Wait] = {}
    serving: int | None = None
    for version in seen.aspired:
        step = _step(version, seen)
        if step is None and serving is None and (ready := seen.ready(version)):
            serving = _served(version, waits, seen)
            step = _serving(version, ready, seen) if serving == version else None
        if isinstance(step, Wait):
            waits[version] = step
        elif step:
            return step
    wait = min(waits.values(), key=lambda each: each.seconds or float("inf"), default=None)
    if serving is None:
        return wait
    addresses = _addresses(serving, seen)
    rest: Iterator[Action] = _exposures(addresses, seen)
    if serving not in waits:  # until all traffic is there, what it leaves keeps its address
        rest = chain(rest, _withdrawals(addresses, seen), _retirements(seen))
    return next(rest, wait)


def _way_back(seen: Deployment) -> Action | None:
    """Away from a version that is not wanted any more, to one before it that answered.

    Be it on an older base image or with other settings: those follow when it is built again.
    """
    live = seen.aliases.get(LIVE, Alias(0))
    running = {seen.model_version(each) for each in (live.function_version, *live.shares)}
    unwanted = [each for each in running if each is not None and each not in seen.aspired]
    if not unwanted or not seen.aspired or seen.aspired[0] > max(unwanted):
        return None
    found = (seen.ready(each) or seen.answered(each) for each in seen.aspired)
    target = next(filter(None, found), None)
    if target is None or target.state not in {State.ACTIVE, State.INACTIVE}:
        return None
    if target.number == live.function_version and seen.provisioning:
        return None
    if target.state is State.INACTIVE and target.number not in seen.addressed():
        return Wake(target.number)
    return Point(target.number)


def _served(version: int, waits: Mapping[int, Wait], seen: Deployment) -> int:
    """The version that `live` is for: a larger one, if that is live and will soon be ready anew."""
    live = seen.model_version(seen.aliases.get(LIVE, Alias(0)).function_version)
    return live if live is not None and live > version and live in waits else version


def _serving(version: int, ready: FunctionVersion, seen: Deployment) -> Action | None:
    """The switch to a version that is ready, and what has to be there before."""
    # before the switch, so that the version before is never without an address
    exposure: Action | None = next(_exposures(_addresses(version, seen), seen), None)
    return exposure or _switch(version, ready, seen)


def _step(version: int, seen: Deployment) -> Action | None:
    """What a version lacks of being ready."""
    if version in seen.stuck:
        return Wait(f"version {version} is tried again later")
    if version not in seen.versions:
        seconds = seen.settling.get(version)
        return None if seconds is None else Wait(f"version {version} is being copied", seconds)
    record, published = seen.record(version), seen.published(version)
    if record and record.error is not None:
        return None
    if record is None or record.image is None:
        return _building(version, record, seen)
    if published is None:
        return _publication(version, record, seen)
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


def _publication(version: int, record: Record, seen: Deployment) -> Action:
    if seen.updating:
        return Wait("Lambda updates the function", _patience(record.changed, seen))
    is_ours = record.given == seen.modified or record.tries >= UPDATES
    refusal = seen.refusal if is_ours else None
    if refusal and refusal.condemns:
        return Fail(version, f"Lambda does not take its image: {refusal}")
    pause = _pause(version, record, refusal, seen)
    if _is_given(record, seen):
        return pause if pause and record.trouble else Publish(version)
    if pause:
        return pause
    others = (seen.record(other) for other in seen.aspired if not seen.published(other))
    if any(other and _is_given(other, seen) and not other.trouble for other in others):
        return Wait("another version is published first", _LOOK_SECONDS)
    return Update(version)


def _is_given(record: Record, seen: Deployment) -> bool:
    """Whether the function has its image, and got it from a release: so it can be published."""
    is_refused = record.error is not None or seen.refusal is not None
    return seen.code == record.image and record.given is not None and not is_refused


def _warming(
    version: int, record: Record, published: FunctionVersion, seen: Deployment
) -> Action | None:
    number = published.number
    match published.state:
        case State.PENDING:
            since = int(published.origin.made or 0) / 1000
            return Wait(f"Lambda prepares function version {number}", _patience(since, seen))
        case State.FAILED | State.OTHER:
            return _not_started(version, record, published, seen)
        case _ if (record.warm, record.made) != (number, published.origin.made):
            warm = Warm(version, number, record.answers_of(published))
            return _pause(version, record, None, seen) or warm
        case State.INACTIVE if number not in seen.addressed():
            return Wake(number)
    return None


def _not_started(
    version: int, record: Record, published: FunctionVersion, seen: Deployment
) -> Action:
    number, refusal = published.number, published.refusal
    if published.state is State.FAILED and refusal.condemns:
        return Fail(version, f"Lambda could not start it: {refusal}")
    if published.state is State.FAILED and number not in seen.addressed():
        return _pause(version, record, refusal, seen) or Retry(version, number)
    return Wait(f"Lambda says of function version {number}: {refusal}", _LONGEST_LOOK_SECONDS)


def _pause(version: int, record: Record, refusal: Refusal | None, seen: Deployment) -> Wait | None:
    """The rest of the time between two tries of what Lambda refuses, longer from try to try."""
    if record.tries <= 1 and refusal is None:
        return None
    seconds = min(_LONGEST_PAUSE_SECONDS, _LOOK_SECONDS * 2**record.tries)
    left = record.changed + seconds - seen.now
    why = refusal or record.trouble
    return Wait(f"version {version} is tried again later: {why}", left) if left > 0 else None


def _patience(since: float, seen: Deployment) -> float:
    """Seconds until another look at what has been going on since then.

    SnapStart takes minutes to publish, and a message can be taken up 100 times.
    """
    return min(_LONGEST_LOOK_SECONDS, max(_LOOK_SECONDS, (seen.now - since) / 4))


def _switch(version: int, ready: FunctionVersion, seen: Deployment) -> Action | None:
    """The way of all traffic to a version that is ready: at once, and back at once, too."""
    live = seen.aliases.get(LIVE, Alias(0))
    record = seen.record(version)
    own = record.shift if record else None
    others = any(each == _UNDER_WAY for name, each in seen.shifts.items() if name != own)
    if live.function_version == ready.number and seen.provisioning:
        return Wait("Lambda allocates provisioned concurrency", _LONGEST_LOOK_SECONDS)
    if live.function_version == ready.number and not live.shares:
        return Halt() if others else None
    before = seen.model_version(live.function_version)
    is_leaving = live.function_version == ready.number  # with shares: on the way to another one
    if not seen.shifting or is_leaving or (before is not None and version < before):
        return Point(ready.number)
    if others:
        return Halt()
    return _shift(version, ready, seen.shifts.get(own or ""), seen)


def _shift(
    version: int, ready: FunctionVersion, shift: Progress | None, seen: Deployment
) -> Action:
    if shift == _UNDER_WAY:
        return Wait(f"CodeDeploy moves traffic to version {version}")
    if shift and shift.done:
        return Point(ready.number)
    return _shift_anew(version, ready, shift.failed if shift else None, seen)


def _shift_anew(
    version: int, ready: FunctionVersion, failed: Refusal | None, seen: Deployment
) -> Action:
    """The first try, or another one; CodeDeploy takes only an alias that is in one piece."""
    if failed and failed.condemns:
        return Fail(version, f"CodeDeploy moved the traffic back: {failed}")
    live, record = seen.aliases.get(LIVE, Alias(0)), seen.record(version)
    if live.shares and seen.provisioning:
        return Wait("Lambda allocates provisioned concurrency", _LONGEST_LOOK_SECONDS)
    if live.shares:
        return Point(live.function_version)
    pause = _pause(version, record, failed, seen) if record else None
    return pause or Shift(version, ready.number)


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
    answered = {found.number for version in seen.records if (found := seen.answered(version))}
    kept = [number for number in unwanted if number in answered][-KEPT_FOR_ROLLBACK:]
    yield from (Retire(number) for number in unwanted if number not in kept)
