"""Look, decide, apply, look again, until nothing is to be done or others need time.

What is refused to one version holds up no other, nor does an address that API Gateway refuses: the
run goes on without it, and a later one tries again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from lambda_serving.errors import Aborted, ServingError, Unavailable
from lambda_serving.release.deciding.actions import (
    Action,
    Expose,
    Halt,
    VersionAction,
    Wait,
    Wake,
    Withdraw,
)
from lambda_serving.release.deciding.model_state import Deployment
from lambda_serving.release.deciding.next_action import next_action

__all__ = ["Gateway", "reconcile"]

_LOOK_SECONDS = 5.0
_PASSING = (Aborted, Unavailable)  # another one was quicker; AWS does not answer just now


class Gateway(Protocol):
    """One model, to be seen and to be changed."""

    def observe(self) -> Deployment:
        """How it stands; raises Unavailable or PermissionDenied rather than showing less."""
        ...

    def apply(self, action: Action, seen: Deployment) -> None:
        """Carries out an action; one that was carried out before does no harm."""
        ...

    def tell(self, alias: str, error: ServingError) -> None:
        """Reports why an alias has no address, for somebody to mend."""
        ...


def reconcile(
    gateway: Gateway,
    tell: Callable[[Action], None] = lambda _: None,
    is_time_left: Callable[[], bool] = lambda: True,
) -> Wait | None:
    """Brings a model to the versions that its policy aspires to.

    None when it is there; `Wait` when it is not, and must be looked at again later. `tell` hears
    of each action before it is carried out; `is_time_left` is asked before. Raises what observing
    and applying raise, what keeps a version from being ready only when all else is done, and
    Aborted for an action that changed nothing. When only addresses are missing, what keeps them
    from being there is raised if it may pass soon; if not, it is told and left to the next event or
    the next hour. Long, because it is the whole loop.
    """
    before: Action | None = None
    refused: dict[str, ServingError] = {}
    stuck: dict[int, ServingError] = {}
    while is_time_left():
        seen = replace(gateway.observe(), refused=frozenset(refused), stuck=frozenset(stuck))
        action = next_action(seen)
        if stuck and (action is None or isinstance(action, Wait)):
            raise next(iter(stuck.values()))
        if action is None:
            _tell(gateway, seen.unseen, refused)
        if action is None or isinstance(action, Wait):
            return action
        if action == before and isinstance(action, Halt | Wake):  # what AWS takes a while for
            return Wait(f"{action} takes effect", _LOOK_SECONDS)
        tell(action)
        try:
            if action == before:
                raise Aborted(
                    f"{action} went through and changed nothing. Look at it before going on"
                )
            gateway.apply(action, seen)
        except ServingError as error:
            _put_aside(action, error, refused, stuck)
        if isinstance(action, Withdraw):  # there is room again
            refused.clear()
        before = action
    return Wait("the time of this run is up", 0)


def _put_aside(
    action: Action,
    error: ServingError,
    refused: dict[str, ServingError],
    stuck: dict[int, ServingError],
) -> None:
    """Notes what this run does not try again; raises what concerns more than one version."""
    if isinstance(action, Expose):
        refused[action.alias] = error
    elif isinstance(action, VersionAction):
        stuck[action.version] = error
    else:
        raise error


def _tell(
    gateway: Gateway, unseen: ServingError | None, refused: Mapping[str, ServingError]
) -> None:
    """What addresses lack in the end; raises what may pass soon."""
    if unseen:
        raise unseen
    for alias, error in refused.items():
        if not isinstance(error, _PASSING):
            gateway.tell(alias, error)
    for error in refused.values():
        if isinstance(error, _PASSING):
            raise error
