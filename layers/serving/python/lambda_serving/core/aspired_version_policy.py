"""What to load or unload next: a pure function of how all versions of a model stand.

Source: core/aspired_version_policy.h, core/availability_preserving_policy.cc.
"""

from collections.abc import Collection
from dataclasses import dataclass

from lambda_serving.core.servable_state import State

__all__ = ["Action", "Load", "Snapshot", "Unload", "next_action"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How one version stands. In state START it may be loaded now."""

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
    """The next thing to do for a model, so that it answers at any time.

    The smallest version that is not aspired goes when an aspired one is available, when none is
    aspired, or when another of its kind stays. Else the largest aspired one is loaded.
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
