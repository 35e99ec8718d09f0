"""What has become of one version that was pushed: a pure function of what is seen."""

from typing import NamedTuple

from lambda_serving.release.deciding.model_state import LIVE, Deployment
from lambda_serving.release.deciding.next_action import next_action

__all__ = ["Failed", "Live", "Outcome", "Pending", "outcome"]


class Live(NamedTuple):
    """All requests that name no version go to the version."""


class Failed(NamedTuple):
    """The version does not become live unless somebody changes something."""

    reason: str


class Pending(NamedTuple):
    """The version may become live; `what` is the next step or what it waits for."""

    what: str


Outcome = Live | Failed | Pending


def outcome(version: int, seen: Deployment) -> Outcome:
    """The outcome for a model version, with the reason that its record has if it failed."""
    if _is_live(version, seen):
        return Live()
    record = seen.record(version)
    if record and record.error is not None:
        return Failed(record.error)
    if obstacle := _obstacle(version, seen):
        return Failed(obstacle)
    action = next_action(seen)
    return Pending(str(action) if action else "Wait: the release function has not looked yet")


def _is_live(version: int, seen: Deployment) -> bool:
    """Whether the alias leads to this content of the version, and to nothing else.

    It may be on an older base image, and is then built again without an interruption.
    """
    alias = seen.aliases[LIVE]
    if alias.shares:
        return False
    if (ready := seen.ready(version)) and ready.number == alias.function_version:
        return True
    made = {
        each.number
        for each in seen.function_versions
        if (each.origin.model_version, each.origin.content) == (version, seen.versions.get(version))
    }
    return alias.function_version in made


def _obstacle(version: int, seen: Deployment) -> str:
    """Why the release function will not make the version live; empty if nothing is in its way."""
    if version not in {*seen.versions, *seen.settling}:
        return "Its files are no longer complete in the bucket"
    if version not in seen.aspired:
        wanted = ", ".join(map(str, seen.aspired)) or "none"
        return f"The policy does not ask for it. It asks for these versions: {wanted}"
    live = seen.model_version(seen.aliases[LIVE].function_version)
    if live is not None and live > version and live in seen.aspired:
        return f"Version {live} is larger and live. The policy keeps this one beside it"
    return ""
