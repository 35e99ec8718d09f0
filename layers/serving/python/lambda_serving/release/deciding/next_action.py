"""Decides what to do next for a model: a pure function of what is aspired and what is seen.

Source of the idea: core/aspired_version_policy.h, GetNextAction. An alias only ever moves to a
function version that has answered, and the previous version stays until another one is warm. A
version that has to wait delays no other.
"""

from collections.abc import Iterator, Mapping
from itertools import chain

from lambda_serving.release.deciding.actions import (
    Action,
    Expose,
    Fail,
    Halt,
    Point,
    Retire,
    Shift,
    Wait,
    Wake,
    Withdraw,
)
from lambda_serving.release.deciding.model_state import (
    LIVE,
    Alias,
    Deployment,
    FunctionVersion,
    Progress,
    Refusal,
    State,
)
from lambda_serving.release.deciding.next_step_of_version import LONGEST_LOOK_SECONDS, pause, step

__all__ = ["next_action", "plan"]

KEPT_FOR_ROLLBACK = 1
"""How many of the newest function versions that are no longer aspired are kept."""
_UNDER_WAY = Progress()


def plan(seen: Deployment) -> Iterator[Action]:
    """The actions to come if each goes well; a `Wait` is the last, as its outcome is unknown."""
    while action := next_action(seen):
        yield action
        if isinstance(action, Wait):
            return
        seen = action.expected(seen)


def next_action(seen: Deployment) -> Action | None:
    """The next step towards the aspired versions, largest first; None when there is none.

    Incomplete versions, and those that failed with their present files, are skipped. If no version
    can serve, nothing is changed or deleted.
    """
    if back := _way_back(seen):
        return back
    waits: dict[int, Wait] = {}
    serving: int | None = None
    for version in seen.aspired:
        needed = step(version, seen)
        if needed is None and serving is None and (ready := seen.ready(version)):
            serving = _served(version, waits, seen)
            needed = _serving(version, ready, seen) if serving == version else None
        if isinstance(needed, Wait):
            waits[version] = needed
        elif needed:
            return needed
    wait = min(waits.values(), key=lambda each: each.seconds or float("inf"), default=None)
    if serving is None:
        return wait
    addresses = _addresses(serving, seen)
    rest: Iterator[Action] = _exposures(addresses, seen)
    if serving not in waits:  # while traffic moves, the version that it leaves keeps its address
        rest = chain(rest, _withdrawals(addresses, seen), _retirements(seen))
    return next(rest, wait)


def _way_back(seen: Deployment) -> Action | None:
    """The switch from a version that is no longer wanted to an earlier one that answered.

    It may be on an older base image or have other settings; both follow when it is built again.
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
    """The version for `live`: a larger one if it is live now and will soon be ready again."""
    live = seen.model_version(seen.aliases.get(LIVE, Alias(0)).function_version)
    return live if live is not None and live > version and live in waits else version


def _serving(version: int, ready: FunctionVersion, seen: Deployment) -> Action | None:
    """The switch to a version that is ready, or an address that is needed first."""
    # first, so that the version that loses `live` always has an address
    exposure: Action | None = next(_exposures(_addresses(version, seen), seen), None)
    return exposure or _switch(version, ready, seen)


def _switch(version: int, ready: FunctionVersion, seen: Deployment) -> Action | None:
    """Moves traffic to a version that is ready: by CodeDeploy, or at once, as to earlier ones."""
    live = seen.aliases.get(LIVE, Alias(0))
    record = seen.record(version)
    own = record.shift if record else None
    others = any(each == _UNDER_WAY for name, each in seen.shifts.items() if name != own)
    if live.function_version == ready.number and seen.provisioning:
        return Wait("Lambda allocates provisioned concurrency", LONGEST_LOOK_SECONDS)
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
    """The first try, or another one; CodeDeploy needs an alias that points to one version only."""
    if failed and failed.condemns:
        return Fail(version, f"CodeDeploy moved the traffic back: {failed}")
    live, record = seen.aliases.get(LIVE, Alias(0)), seen.record(version)
    if live.shares and seen.provisioning:
        return Wait("Lambda allocates provisioned concurrency", LONGEST_LOOK_SECONDS)
    if live.shares:
        return Point(live.function_version)
    wait = pause(version, record, failed, seen) if record else None
    return wait or Shift(version, ready.number)


def _addresses(serving: int, seen: Deployment) -> Mapping[str, FunctionVersion | None]:
    """The aliases to have beside `live`; None for a version that is not ready.

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
    """Aliases to create or move; those refused in this run are left to a later one."""
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
    """Aliases and routes to remove: only those that a release created."""
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
