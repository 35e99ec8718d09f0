"""A function: its code now, its published versions, and the aliases that point to them."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from threading import RLock
from typing import Any, NamedTuple

from support.aws_plane.refused import Refused, conflict, not_found

__all__ = ["Alias", "Failure", "Function", "Run", "Version"]

Run = Callable[[str, Any, str], Any]
"""Runs an image's function on an event, invoked by a qualifier: `$LATEST`, a version or an alias.
Returns its answer; a RuntimeError is a function error."""
_ASLEEP = (
    "The operation cannot be performed at this time. The function is currently in the following"
    " state: Inactive"
)
_ACCOUNT = "arn:aws:lambda:eu-west-1:123456789012:function"


class Failure(NamedTuple):
    """Why an update failed or a version did not start: botocore's code, and a message."""

    code: str
    reason: str


@dataclass(slots=True)
class Version:
    """Code and settings of a function, `$LATEST` or published.

    It becomes ready after `looks` looks, unless its update or start is a `failure`. A version may
    be in another `state`, such as Inactive. `update` counts the updates of the code: Lambda
    publishes after an update, even to the same image. `modified` is when it was updated or
    published, in milliseconds.
    """

    image: str
    description: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    memory: int = 1024
    looks: int = 0
    failure: Failure | None = None
    state: str = ""
    update: int = 0
    revision: int = 1
    modified: int = 0

    def look(self) -> bool:
        """Whether it is ready now; each look brings that nearer, and then the revision changes."""
        ready = self.looks == 0
        if not ready:
            self.looks -= 1
            self.revision += self.looks == 0
        return ready

    def same_as(self, other: "Version") -> bool:
        """Whether there is nothing to publish between the two."""
        ours = (self.update, self.image, self.environment, self.memory)
        return ours == (other.update, other.image, other.environment, other.memory)

    @property
    def digest(self) -> str:
        """Lambda's CodeSha256 of an image, from its digest."""
        return self.image.rpartition("sha256:")[2]


@dataclass(slots=True)
class Alias:
    """A name for a version, and for others that get a share of its invocations.

    Version 0 is `$LATEST`; only tests point an alias to it.
    """

    function_version: int
    weights: dict[int, float] = field(default_factory=dict)
    revision: int = 1
    description: str = ""


@dataclass(slots=True)
class Function:
    """A function; `policies` holds statements by alias, version or "", and by their id.

    Aliases in `provisioned` have provisioned concurrency. When such an alias moves, allocating it
    takes that many looks; until then Lambda leaves the traffic where it was, and `allocating`
    counts the remaining looks. An invocation of an inactive version is refused with `asleep`, and
    activates it within `waking_looks` looks.
    """

    name: str
    latest: Version
    run: Run
    random: Random
    lock: RLock
    versions: dict[int, Version] = field(default_factory=dict)
    aliases: dict[str, Alias] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    provisioned: dict[str, int] = field(default_factory=dict)
    newest: int = 0
    waking_looks: int = 1
    asleep: Refused = field(default_factory=lambda: conflict(_ASLEEP))
    allocating: dict[str, int] = field(default_factory=dict)
    _revisions: Iterator[int] = field(default_factory=lambda: itertools.count(1, 1000))

    def arn(self, qualifier: str = "") -> str:
        """The function's ARN, with the qualifier if there is one."""
        return ":".join(filter(None, (_ACCOUNT, self.name, qualifier)))

    def invoke(self, event: Any, qualifier: str = "live") -> Any:
        """The answer of the qualifier's version; an alias chooses by its weights."""
        return self.run(self.choose(qualifier)[1].image, event, qualifier)

    def choose(self, qualifier: str) -> tuple[str, Version]:
        """The version for an invocation, with its name; refuses one that is not active."""
        with self.lock:
            if alias := self.aliases.get(qualifier):
                draw = self.random.random()
                for number, weight in alias.weights.items():
                    if draw < weight:
                        return self._active(str(number))
                    draw -= weight
            return self._active(qualifier)

    def find(self, qualifier: str) -> tuple[str, Version]:
        """The version that the qualifier names, for an alias its main one, with its name."""
        alias = self.aliases.get(qualifier)
        if qualifier == "$LATEST" or (alias and not alias.function_version):
            return "$LATEST", self.latest
        number = str(alias.function_version) if alias else qualifier
        if not number.isdecimal() or int(number) not in self.versions:
            raise not_found(f"Function not found: {self.arn(qualifier)}")
        return number, self.versions[int(number)]

    def publish(
        self, description: str, *, looks: int = 0, failure: Failure | None = None, now: int = 0
    ) -> int:
        """The number of a new version, or of the newest if it has this code and these settings."""
        newest = self.versions.get(self.newest)
        if newest is None or not newest.same_as(self.latest):
            self.newest += 1
            self.versions[self.newest] = replace(
                self.latest,
                description=description,
                looks=looks,
                failure=failure,
                revision=1,
                modified=now,
            )
        return self.newest

    def point(self, name: str, number: int, weights: Mapping[int, float] | None = None) -> Alias:
        """Creates or moves an alias and returns it; its weights stay if none are given."""
        if not (alias := self.aliases.get(name)):
            alias = self.aliases[name] = Alias(number, revision=next(self._revisions))
        before, alias.function_version = alias.function_version, number
        if weights is not None:
            alias.weights = dict(weights)
        if looks := self.provisioned.get(name):
            self.allocating[name] = looks
            alias.weights = {before: 1.0} if before != number else alias.weights
        alias.revision += 1
        return alias

    def look_at(self, name: str) -> bool:
        """Whether an alias has its provisioned concurrency; each look brings that nearer."""
        left = self.allocating.get(name, 0)
        if left == 1:
            self.aliases[name].weights = {}
            self.aliases[name].revision += 1
        if left:
            self.allocating[name] = left - 1
        return left == 0

    def _active(self, qualifier: str) -> tuple[str, Version]:
        number, version = self.find(qualifier)
        if number == "$LATEST":
            return number, version
        if version.state == "Inactive":  # which the invocation ends
            version.state, version.looks = "", max(1, self.waking_looks)
            raise self.asleep
        if version.looks or version.failure or version.state:
            state = version.state or ("Pending" if version.looks else "Failed")
            raise conflict(
                "The operation cannot be performed at this time."
                f" The function is currently in the following state: {state}"
            )
        return number, version
