"""What to load or unload next: a pure function of the states of a model's versions.

Source: core/aspired_version_policy.h, core/availability_preserving_policy.cc.
"""

from collections.abc import Collection
from dataclasses import dataclass

from lambda_serving.core.servable_state import State

__all__ = ["Action", "Load", "Snapshot", "Unload", "next_action"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one version; START means that it may be loaded now."""

    version: int
    is_aspired: bool
    state: State


@dataclass(frozen=True, slots=True)
class Load:
    version: int


@dataclass(frozen=True, slots=True)
class Unload:
    version: int


Action = Load | Unload


def next_action(versions: Collection[Snapshot]) -> Action | None:
    """The next action for a model, chosen so that some version can always answer.

    Unloads the smallest available version that is not aspired if an aspired version is available,
    if none is aspired, or if another such version remains. Otherwise loads the largest aspired one.
    """
    aspired = [each for each in versions if each.is_aspired]
    retired = [
        each.version for each in versions if not each.is_aspired and each.state is State.AVAILABLE
    ]
    answers = any(each.state is State.AVAILABLE for each in aspired)
    if retired and (answers or not aspired or len(retired) > 1):
        return Unload(min(retired))
    new = [each.version for each in aspired if each.state is State.START]
    return Load(max(new)) if new else None
