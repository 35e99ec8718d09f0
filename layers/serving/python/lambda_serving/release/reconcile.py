"""Looks, decides, applies and looks again, until nothing is left to do or something needs time.

An action that fails for one version, or for one address, does not delay the others: the run goes on
without it, and a later run tries again.
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

__all__ = ["TEMPORARY", "Gateway", "reconcile"]

TEMPORARY = (Aborted, Unavailable)
"""The errors that need nobody's help: somebody else was quicker, or AWS does not answer."""
_LOOK_SECONDS = 5.0


class Gateway(Protocol):
    """Observes and changes one model."""

    def observe(self) -> Deployment:
        """The model's state; raises Unavailable or PermissionDenied rather than showing less."""
        ...

    def apply(self, action: Action, seen: Deployment) -> None:
        """Carries out an action; repeating one does no harm."""
        ...

    def tell(self, alias: str, error: ServingError) -> None:
        """Reports why an alias has no address, so that somebody can fix it."""
        ...


def reconcile(
    gateway: Gateway,
    tell: Callable[[Action], None] = lambda _: None,
    is_time_left: Callable[[], bool] = lambda: True,
) -> Wait | None:
    """Brings a model to the versions that its policy aspires to.

    Returns None when it is done, `Wait` when it must look again later. `tell` gets each action
    before it is carried out, and `is_time_left` is asked before each look. Raises what observing
    and applying raise, and Aborted for an action that changed nothing. An error of one version is
    raised when everything else is done. If only addresses are missing, a temporary error is raised;
    any other is reported and left to the next event or hour. Long, because it is the whole loop.
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
        if action == before and isinstance(action, Halt | Wake):  # AWS needs a while for these
            return Wait(f"AWS carries out the last step ({action})", _LOOK_SECONDS)
        tell(action)
        try:
            if action == before:
                raise Aborted(
                    f"{action}: this succeeded but changed nothing. Find out why before running"
                    " again"
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
    """Notes what this run will not retry; raises an error that concerns more than one version."""
    if isinstance(action, Expose):
        refused[action.alias] = error
    elif isinstance(action, VersionAction):
        stuck[action.version] = error
    else:
        raise error


def _tell(
    gateway: Gateway, unseen: ServingError | None, refused: Mapping[str, ServingError]
) -> None:
    """Reports the errors of addresses at the end of a run; raises temporary ones."""
    if unseen:
        raise unseen
    for alias, error in refused.items():
        if not isinstance(error, TEMPORARY):
            gateway.tell(alias, error)
    for error in refused.values():
        if isinstance(error, TEMPORARY):
            raise error
