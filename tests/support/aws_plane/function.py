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
"""What the function of an image returns for an event, invoked by a qualifier: `$LATEST`, a version
or an alias. A RuntimeError that it raises is a function error."""
_ASLEEP = (
    "The operation cannot be performed at this time. The function is currently in the following"
    " state: Inactive"
)
_ACCOUNT = "arn:aws:lambda:eu-west-1:123456789012:function"


class Failure(NamedTuple):
    """Why an update failed, or a version could not be started: a code of botocore's, and words."""

    code: str
    reason: str


@dataclass(slots=True)
class Version:
    """Code and settings of a function, `$LATEST` or published.

    It is not ready for `looks` looks, then the update to it or its start is a `failure`, if there
    is one. A version may be in a `state` of its own, such as Inactive. `update` counts the updates
    of the code: Lambda publishes what was updated since, be it to the same image. `modified` is
    when it was updated or published, in milliseconds.
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
        """Whether it is ready now; a look brings it nearer, and being ready is a new revision."""
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
        """Lambda's CodeSha256 of an image: its digest's."""
        return self.image.rpartition("sha256:")[2]


@dataclass(slots=True)
class Alias:
    """A name for a version, and for others by the share of invocations that they get.

    0 is `$LATEST`, for which only a test makes one.
    """

    function_version: int
    weights: dict[int, float] = field(default_factory=dict)
    revision: int = 1
    description: str = ""


@dataclass(slots=True)
class Function:
    """A function by its name; `policies` holds statements by alias, version or "" and their id.

    Aliases in `provisioned` have provisioned concurrency, which takes that many looks to allocate
    for a version that the alias moves to: Lambda keeps the traffic where it was until then, and
    `allocating` counts the looks that are left. An invocation of a version that sleeps is refused
    with `asleep`, and wakes it for `waking_looks` looks.
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
        """The name by which AWS knows it, or what the qualifier says of it."""
        return ":".join(filter(None, (_ACCOUNT, self.name, qualifier)))

    def invoke(self, event: Any, qualifier: str = "live") -> Any:
        """What the version returns that the qualifier means, an alias by its weights."""
        return self.run(self.choose(qualifier)[1].image, event, qualifier)

    def choose(self, qualifier: str) -> tuple[str, Version]:
        """The version that an invocation gets, with its name; refuses if it is not active."""
        with self.lock:
            if alias := self.aliases.get(qualifier):
                draw = self.random.random()
                for number, weight in alias.weights.items():
                    if draw < weight:
                        return self._active(str(number))
                    draw -= weight
            return self._active(qualifier)

    def find(self, qualifier: str) -> tuple[str, Version]:
        """The version that the qualifier names, an alias's first one, with its name."""
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
        """The number of a version with the code and settings of now, the newest if it has them."""
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
        """The alias, made or moved; its weights stay as they are if none are given."""
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
        """Whether an alias has its provisioned concurrency; a look brings it nearer."""
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
