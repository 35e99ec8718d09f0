"""The state of the stand-in, and the changes that only tests can make."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from threading import RLock, Thread
from typing import Any

from support.aws_plane.function import Alias, Failure, Function, Run, Version

__all__ = ["UNFINISHED", "Deployment", "Plane"]

Authorize = Callable[[str, str, str, Mapping[str, Any]], None]
UNFINISHED = frozenset({"Created", "InProgress"})
_ALARM = (
    "One or more alarms have been activated according to the Amazon CloudWatch metrics you"
    " selected, and the affected deployments have been stopped."
)


def _no_run(image: str, event: Any, qualifier: str) -> Any:
    raise RuntimeError(f"{image} is not to be run: {qualifier} got {event}")


@dataclass(slots=True)
class Deployment:
    """A deployment of CodeDeploy, which moves an alias from one version to another.

    It ends when one of its `alarms` rings.
    """

    group: tuple[str, str]
    revision: dict[str, Any]
    function: str
    alias: str
    current: int
    target: int
    status: str = "Created"
    alarms: frozenset[str] = frozenset()
    error: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Plane:
    """Functions by name, CodeDeploy's groups as (application, group), and its deployments by id.

    Functions run by `run` unless they have their own. New code and versions are ready after
    `looks`: answers that tell their state; versions after `publish_looks`, if that is given, as
    with SnapStart. Versions of images in `broken` never become ready, and updates to those in
    `unfit` are taken and fail, for the reason given there; then the function shows the image that
    it had, or the one that failed if `shows_unfit`. Images in `missing_images` are refused. A
    function has at most `most_aliases`. Alarms in `ringing` end a deployment of CodeDeploy at once,
    if its group has them in `group_alarms` and it does not override them. An alias with weights
    draws by `random`. `calls` are the names of operations so far; `interfere` is called with the
    name "before" and "after" each, and may raise `Refused`. `authorize` may, too: it is called
    with the header `Authorization`, service, operation and what is asked for. `failures` are what
    went wrong in the stand-in itself; `serving` raises the first at its end.
    """

    run: Run = _no_run
    looks: int = 1
    random: Random = field(default_factory=lambda: Random(0))  # noqa: S311 no secret
    publish_looks: int | None = None
    broken: dict[str, Failure] = field(default_factory=dict)
    unfit: dict[str, Failure] = field(default_factory=dict)
    shows_unfit: bool = False
    most_aliases: int = 1000
    ringing: set[str] = field(default_factory=set)
    group_alarms: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    missing_images: set[str] = field(default_factory=set)
    interfere: Callable[[str, str], None] = lambda _, __: None
    calls: list[str] = field(default_factory=list)
    functions: dict[str, Function] = field(default_factory=dict)
    groups: set[tuple[str, str]] = field(default_factory=set)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)
    background: list[Thread] = field(default_factory=list)
    lock: RLock = field(default_factory=RLock)
    authorize: Authorize = lambda *_: None
    _clock: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def now(self) -> int:
        """The time, which advances by a millisecond per call."""
        return next(self._clock)

    def add(
        self,
        name: str,
        image: str,
        *,
        environment: Mapping[str, str] | None = None,
        memory: int = 1024,
        run: Run | None = None,
        alias: bool = True,
    ) -> Function:
        """Adds a function as a template creates it: version 1, and the alias `live` on it."""
        latest = Version(image, environment=environment or {}, memory=memory, modified=self.now())
        function = Function(name, latest, run or self.run, self.random, self.lock)
        function.publish("the template's", now=self.now())
        if alias:
            function.point("live", 1)
        self.functions[name] = function
        return function

    def add_group(self, application: str, group: str, *alarms: str) -> None:
        """A deployment group of CodeDeploy, and its application."""
        self.groups.add((application, group))
        self.group_alarms[application, group] = [*alarms]

    def shift(self, deployment_id: str, weight: float) -> None:
        """Makes CodeDeploy give the new version that share of the invocations."""
        with self.lock:
            deployment = self._unfinished(deployment_id)
            deployment.status = "InProgress"
            self._point(deployment, deployment.current, {deployment.target: weight})

    def finish(self, deployment_id: str) -> None:
        """Ends the deployment with success: the alias points to the new version."""
        with self.lock:
            deployment = self._unfinished(deployment_id)
            deployment.status = "Succeeded"
            self._point(deployment, deployment.target, {})

    def alarm(self, deployment_id: str) -> None:
        """Sets off an alarm: CodeDeploy stops and rolls back."""
        self.end(deployment_id, "Stopped", "ALARM_ACTIVE", _ALARM)

    def ring(self, name: str) -> None:
        """Sets off an alarm from now on; it ends running deployments that watch it."""
        with self.lock:
            self.ringing.add(name)
            for deployment_id, deployment in self.deployments.items():
                if deployment.status in UNFINISHED and name in deployment.alarms:
                    self.alarm(deployment_id)

    def fail(self, deployment_id: str, code: str, message: str) -> None:
        """Makes a hook or CodeDeploy itself fail; the deployment is rolled back."""
        self.end(deployment_id, "Failed", code, message)

    def end(
        self, deployment_id: str, status: str, code: str, message: str, *, roll_back: bool = True
    ) -> None:
        """Ends the deployment early; without a rollback the alias keeps its weights."""
        with self.lock:
            deployment = self._unfinished(deployment_id)
            deployment.status, deployment.error = status, {"code": code, "message": message}
            if roll_back:
                self._point(deployment, deployment.current, {})

    def _unfinished(self, deployment_id: str) -> Deployment:
        deployment = self.deployments[deployment_id]
        assert deployment.status in UNFINISHED, f"{deployment_id} is {deployment.status}"
        return deployment

    def _point(self, deployment: Deployment, number: int, weights: dict[int, float]) -> Alias:
        function = self.functions[deployment.function]
        return function.point(deployment.alias, number, weights)
