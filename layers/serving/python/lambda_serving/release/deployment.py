"""What is seen of one model: in its store, in its release records, in Lambda."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from lambda_serving.errors import ServingError

__all__ = [
    "LIVE",
    "Alias",
    "Deployment",
    "FunctionVersion",
    "Origin",
    "Progress",
    "Record",
    "State",
]

LIVE = "live"
"""The alias that takes the requests which name neither version nor label."""
_DESCRIPTION = re.compile(r"model version (\d+), content (\S+), image (\S+)")


class State(Enum):
    """Of a published function version; other states of Lambda count as one of these."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"  # asleep after weeks without a request
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a function version was made of.

    Lambda keeps it as the version's description, so that it can be read without a database.
    `content` tells the files of the model version, `image` is a digest, `sha256:...`.
    """

    model_version: int
    content: str
    image: str

    def __str__(self) -> str:
        return f"model version {self.model_version}, content {self.content}, image {self.image}"

    @classmethod
    def of(cls, description: str) -> Self | None:
        """The origin that a description tells, None for one of somebody else."""
        match = _DESCRIPTION.fullmatch(description)
        return cls(int(match[1]), match[2], match[3]) if match else None


@dataclass(frozen=True, slots=True)
class Record:
    """What was recorded of a model version, `_releases/NAME/VERSION.json`.

    It holds for one content on one base image; of others it says nothing. `image` is the digest
    of what was built, `warm` the function version that was warmed, `error` why the version will
    not be tried again. While it is warmed, `asked_of` is the function version that has given the
    first `answered` golden answers. While a build is under way, `asked` is when it was asked for,
    `builds` how often. `shift` is the deployment of CodeDeploy that moves traffic to it. `seconds`
    tells how long steps took, `changed` when the record was written; both times are seconds since
    1970.
    """

    content: str
    base: str
    image: str | None = None
    warm: int | None = None
    error: str | None = None
    asked_of: int | None = None
    answered: int = 0
    asked: float | None = None
    builds: int = 0
    shift: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    changed: float = 0

    def answers_of(self, function_version: "FunctionVersion") -> int:
        """How many golden pairs it has answered as it should."""
        return self.answered if self.asked_of == function_version.number else 0


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """A published version of the function.

    `settings` tells memory, environment and the like apart, as they were when it was published;
    `reason` is Lambda's, for one that failed.
    """

    number: int
    origin: Origin
    state: State
    settings: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an alias points; `shares` are the function versions that get part of its requests.

    It moves only if nobody else has moved it since it had this `revision`.
    """

    function_version: int
    revision: str = ""
    shares: AbstractSet[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Progress:
    """How a deployment of CodeDeploy fares: under way, `done`, or `failed` for a reason."""

    done: bool = False
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One look at a model.

    `versions` are those that are complete, with what tells their content; of `settling` ones it
    will be known in so many seconds. `aspired` are the versions that the policy wants out of
    both, largest first. `base` is the digest of the image without a model.

    `code` is the digest of the image that the function has, `$LATEST`, `settings` are its
    settings, and `updating` says that Lambda is still at giving it to it; it is published only
    with this `revision`. With `shifting`, traffic moves by CodeDeploy, whose deployments are in
    `shifts`. `now` is in seconds since 1970.

    `odd` are keys below the model that are no names of files. `routed` are aliases that have routes
    of their own, `exposed` those of them whose routes are as they should be; `unseen` is why that
    could not be seen. `refused` are aliases that this run could not give what they lack.
    """

    base: str
    versions: Mapping[int, str]
    aspired: Sequence[int] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    settling: Mapping[int, float] = field(default_factory=dict)
    records: Mapping[int, Record] = field(default_factory=dict)
    function_versions: Sequence[FunctionVersion] = ()
    code: str = ""
    settings: str = ""
    updating: bool = False
    revision: str = ""
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    odd: Sequence[str] = ()
    exposed: AbstractSet[str] = frozenset()
    routed: AbstractSet[str] = frozenset()
    unseen: ServingError | None = None
    refused: AbstractSet[str] = frozenset()
    shifting: bool = False
    shifts: Mapping[str, Progress] = field(default_factory=dict)
    now: float = 0

    def record(self, version: int) -> Record | None:
        """What is recorded of a version as it is now."""
        record = self.records.get(version)
        if record and (record.content, record.base) == (self.versions.get(version), self.base):
            return record
        return None

    def published(self, version: int) -> FunctionVersion | None:
        """The newest function version of a model version as it was built and is set now.

        Of its origin the image counts: other files may well compile to the same one, and Lambda
        publishes the same image only once.
        """
        record = self.record(version)
        image = record.image if record else None
        found = [
            each
            for each in self.function_versions
            if (each.origin.model_version, each.origin.image) == (version, image)
            and each.settings == self.settings
        ]
        return max(found, key=lambda each: each.number, default=None)

    def ready(self, version: int) -> FunctionVersion | None:
        """The function version of a model version that lacks nothing and did not fail."""
        record, published = self.record(version), self.published(version)
        is_warm = record and published and record.error is None and record.warm == published.number
        return published if is_warm else None

    def addressed(self) -> AbstractSet[int]:
        """The function versions that an alias points to, be it in part."""
        return {
            number
            for alias in self.aliases.values()
            for number in (alias.function_version, *alias.shares)
        }
