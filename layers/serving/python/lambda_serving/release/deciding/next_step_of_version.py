"""The steps that a version needs before it gets traffic: build, publish, warm.

Source of the idea: core/aspired_version_policy.h, GetNextAction.
"""

from lambda_serving.release.deciding.actions import (
    Action,
    Build,
    Fail,
    Publish,
    Retry,
    Update,
    Wait,
    Wake,
    Warm,
)
from lambda_serving.release.deciding.model_state import (
    Deployment,
    FunctionVersion,
    Record,
    Refusal,
    State,
)

__all__ = ["BUILDS", "BUILD_SECONDS", "LONGEST_LOOK_SECONDS", "UPDATES", "pause", "step"]

BUILDS = 2
"""How often the image of a version is ordered; Lambda retries each order twice."""
BUILD_SECONDS = 3000.0
"""The longest that a build may take: three times Lambda's limit of a quarter of an hour, and the
minutes between its retries."""
UPDATES = 3
"""How often Lambda is given an image that it refuses for a reason that may be another's."""
LONGEST_LOOK_SECONDS = 60.0
_LOOK_SECONDS = 5.0  # between two looks at Lambda's progress, which sends no event
_LONGEST_PAUSE_SECONDS = 300.0


def step(version: int, seen: Deployment) -> Action | None:
    """The next step that a version needs to be ready; None if there is none."""
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
        f"Its image was ordered {record.builds} times, and no build finished. The log of the build"
        " function says why; it may need more memory",
    )


def _publication(version: int, record: Record, seen: Deployment) -> Action:
    if seen.updating:
        return Wait("Lambda updates the function", _patience(record.changed, seen))
    is_ours = record.given == seen.modified or record.tries >= UPDATES
    refusal = seen.refusal if is_ours else None
    if refusal and refusal.condemns:
        return Fail(version, f"Lambda rejects its image: {refusal}")
    wait = pause(version, record, refusal, seen)
    if _is_given(record, seen):
        return wait if wait and record.trouble else Publish(version)
    if wait:
        return wait
    others = (seen.record(other) for other in seen.aspired if not seen.published(other))
    if any(other and _is_given(other, seen) and not other.trouble for other in others):
        return Wait("another version is published first", _LOOK_SECONDS)
    return Update(version)


def _is_given(record: Record, seen: Deployment) -> bool:
    """Whether the function has this image from a release, so that it can be published."""
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
            return pause(version, record, None, seen) or warm
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
        return pause(version, record, refusal, seen) or Retry(version, number)
    return Wait(f"Lambda says of function version {number}: {refusal}", LONGEST_LOOK_SECONDS)


def pause(version: int, record: Record, refusal: Refusal | None, seen: Deployment) -> Wait | None:
    """The rest of the pause before the next try; the pause doubles with each try."""
    if record.tries <= 1 and refusal is None:
        return None
    seconds = min(_LONGEST_PAUSE_SECONDS, _LOOK_SECONDS * 2**record.tries)
    left = record.changed + seconds - seen.now
    why = refusal or record.trouble
    return Wait(f"version {version} is tried again later: {why}", left) if left > 0 else None


def _patience(since: float, seen: Deployment) -> float:
    """Seconds until the next look at a change that began at `since`.

    Publishing with SnapStart takes minutes, and a message can be received 100 times.
    """
    return min(LONGEST_LOOK_SECONDS, max(_LOOK_SECONDS, (seen.now - since) / 4))
