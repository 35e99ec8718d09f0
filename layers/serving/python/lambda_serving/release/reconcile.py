"""Look, decide, apply, look again, until nothing is to be done or others need time."""

from collections.abc import Callable
from typing import Protocol

from lambda_serving.errors import Aborted
from lambda_serving.release.actions import Action, Wait, next_action
from lambda_serving.release.deployment import Deployment

__all__ = ["Gateway", "reconcile"]


class Gateway(Protocol):
    """One model, to be seen and to be changed."""

    def observe(self) -> Deployment:
        """How it stands; raises Unavailable or PermissionDenied rather than showing less."""
        ...

    def apply(self, action: Action, seen: Deployment) -> None:
        """Carries out an action; one that was carried out before does no harm."""
        ...


def reconcile(
    gateway: Gateway,
    tell: Callable[[Action], None] = lambda _: None,
    is_time_left: Callable[[], bool] = lambda: True,
) -> Wait | None:
    """Brings a model to the versions that its policy aspires to.

    None when it is there; `Wait` when it is not, and must be looked at again later. `tell` hears
    of each action before it is carried out; `is_time_left` is asked before. Raises what observing
    and applying raise, and Aborted for an action that changed nothing.
    """
    before: Action | None = None
    while is_time_left():
        seen = gateway.observe()
        action = next_action(seen)
        if action is None or isinstance(action, Wait):
            return action
        if action == before:
            raise Aborted(f"{action} went through and changed nothing. Look at it before going on")
        tell(action)
        gateway.apply(action, seen)
        before = action
    return Wait("the time of this run is up", 0)
