"""What to do next for a model: a pure function of what is aspired and what is seen.

Source of the idea: core/aspired_version_policy.h, GetNextAction. The alias only ever moves to a
function version that answered, and the version before stays until another one is warm.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lambda_serving.release.deployment import Deployment, FunctionVersion, State

__all__ = [
    "Action",
    "Build",
    "Fail",
    "Point",
    "Publish",
    "Retire",
    "Update",
    "Wait",
    "Warm",
    "next_action",
]

KEPT_FOR_ROLLBACK = 1
"""Function versions that nobody aspires to any more, the newest ones."""


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
    """Lambda is still at it: look again later."""


@dataclass(frozen=True, slots=True)
class Warm:
    """Have the function version answer; the outcome is recorded."""

    version: int
    function_version: int


@dataclass(frozen=True, slots=True)
class Fail:
    """Record that the version will not do, and why; it is not tried again as it is."""

    version: int
    error: str


@dataclass(frozen=True, slots=True)
class Point:
    """Move the alias."""

    function_version: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Delete a function version."""

    function_version: int


Action = Build | Update | Publish | Wait | Warm | Fail | Point | Retire


def next_action(aspired: Sequence[int], seen: Deployment) -> Action | None:
    """The next step towards the `aspired` versions, largest first; None when there is none.

    A version that is not complete, or that failed as it is, is passed over. Without any version
    to serve, nothing is changed or deleted.
    """
    serving: FunctionVersion | None = None
    for version in aspired:
        if step := _step(version, seen):
            return step
        ready = _ready(version, seen)
        if ready and serving is None:
            serving = ready
            if seen.live != ready.number:
                return Point(ready.number)
    return next(_retirements(aspired, seen), None) if serving else None


def _step(version: int, seen: Deployment) -> Action | None:
    """What a version lacks of being ready."""
    record, published = seen.record(version), seen.published(version)
    if version not in seen.manifests or (record and record.error is not None):
        return None
    if record is None or record.image is None:
        return Build(version)
    if published is None:
        return _publication(version, record.image, seen)
    match published.state:
        case State.PENDING:
            return Wait()
        case State.FAILED:
            return Fail(version, f"Lambda could not start it: {published.reason}")
        case State.ACTIVE:
            is_warm = record.warm == published.number
            return None if is_warm else Warm(version, published.number)


def _publication(version: int, image: str, seen: Deployment) -> Action:
    if seen.updating:
        return Wait()
    return Publish(version) if seen.code == image else Update(version)


def _ready(version: int, seen: Deployment) -> FunctionVersion | None:
    """The function version of a model version that lacks nothing and did not fail."""
    record, published = seen.record(version), seen.published(version)
    is_warm = record and published and record.error is None and record.warm == published.number
    return published if is_warm else None


def _retirements(aspired: Sequence[int], seen: Deployment) -> Iterator[Retire]:
    """Deletions, oldest first: never what is live, aspired, or kept for going back."""
    current = {each.number for version in aspired if (each := seen.published(version))}
    unwanted = sorted(
        each.number
        for each in seen.function_versions
        if each.number not in current and each.number != seen.live
    )
    for number in unwanted[: len(unwanted) - KEPT_FOR_ROLLBACK]:
        yield Retire(number)
