"""What is seen of one model: in its store, in its release records, in Lambda."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
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
    "Refusal",
    "State",
]

LIVE = "live"
"""The alias that takes the requests which name neither version nor label."""
_DESCRIPTION = re.compile(
    r"model version (\d+), content ([^\s,]+), image ([^\s,]+)(?:, made (\d+))?"
)
_CONDEMNING = re.compile(
    r"InvalidImage|ImageDeleted|SizeLimitExceeded|InvalidRuntime|FunctionError(\..+)?"
    r"|ALARM_ACTIVE|CUSTOMER_APPLICATION_UNHEALTHY|HOOK_EXECUTION_FAILURE|MANUAL_STOP"
)


class State(Enum):
    """Of a published function version."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"  # asleep after weeks without a request
    FAILED = "Failed"
    OTHER = "other"  # Deactivating, Deleting and whatever Lambda adds: it passes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Lambda failed to update a function or to start a version, or CodeDeploy to move traffic.

    Source: botocore's enumerations StateReasonCode, LastUpdateStatusReasonCode and, of CodeDeploy,
    ErrorCode.
    """

    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.code})" if self.code else self.reason

    @property
    def condemns(self) -> bool:
        """Whether it is about the image, what starts in it, or what it does with its first traffic.

        All other codes, those that nobody knows yet too, are about permissions, networks, keys,
        quotas or AWS itself. They pass, or somebody mends them, and the image is as good as
        before.
        """
        return bool(_CONDEMNING.fullmatch(self.code))


@dataclass(frozen=True, slots=True)
class Origin:
    """What a function version was made of.

    Lambda keeps it as the version's description, so that it can be read without a database.
    `content` tells the files of the model version, `image` is a digest, `sha256:...`, `made` are
    the milliseconds since 1970 when it was published: a function that is deleted and made again
    counts its versions from 1, and this tells them apart.
    """

    model_version: int
    content: str
    image: str
    made: str = ""

    def __str__(self) -> str:
        made = f", made {self.made}" if self.made else ""
        return (
            f"model version {self.model_version}, content {self.content}, image {self.image}{made}"
        )

    @classmethod
    def of(cls, description: str) -> Self | None:
        """The origin that a description tells, None for one of somebody else."""
        match = _DESCRIPTION.fullmatch(description)
        return cls(int(match[1]), match[2], match[3], match[4] or "") if match else None


@dataclass(frozen=True, slots=True)
class Record:
    """What was recorded of a model version, `_releases/NAME/VERSION.json`.

    It holds for one content on one pair of base images, whose digests `base` has; of others it says
    nothing. `image` is the digest of what was built, `warm` the function version that was warmed
    and `made` the same of its origin, `error` why the version will not be tried again. While it is
    warmed, `asked_of` is the function version that has given the first `answered` golden answers.
    While a build is under way, `asked` is when it was asked for, `builds` how often. `given` is
    what Lambda's LastModified was when it was given the image, `tries` how often it was given or
    asked something in vain since the version last answered, and `trouble` why. `shift` is the
    deployment of CodeDeploy that moves traffic to it. `seconds` tells how long steps took,
    `changed` when the record was written; both times are seconds since 1970. `tag` is the ETag of
    the stored record, None if there is none yet: only that one is replaced.
    """

    content: str
    base: str
    image: str | None = None
    warm: int | None = None
    made: str = ""
    given: str | None = None
    tries: int = 0
    trouble: str = ""
    error: str | None = None
    asked_of: int | None = None
    answered: int = 0
    asked: float | None = None
    builds: int = 0
    shift: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    changed: float = 0
    tag: str | None = field(default=None, compare=False)

    def answers_of(self, function_version: "FunctionVersion") -> int:
        """How many golden pairs it has answered as it should."""
        asked = (function_version.number, function_version.origin.made)
        return self.answered if asked == (self.asked_of, self.made) else 0


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """A published version of the function.

    `settings` tells memory, environment and the like apart, as they were when it was published;
    `refusal` is why Lambda could not start it, or what Lambda says of any other state.
    """

    number: int
    origin: Origin
    state: State
    settings: str = ""
    refusal: Refusal = Refusal("", "")


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an alias points; `shares` are the function versions that get part of its requests.

    0 is `$LATEST`, to which only somebody else points one. It moves only if nobody else has moved
    it since it had this `revision`.
    """

    function_version: int
    revision: str = ""
    shares: AbstractSet[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Progress:
    """How a deployment of CodeDeploy fares: under way, `done`, or `failed` for a reason."""

    done: bool = False
    failed: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One look at a model.

    `versions` are those that are complete, with what tells their content; of `settling` ones it
    will be known in so many seconds. `aspired` are the versions that the policy wants out of
    both, largest first. `base` are the digests of the images without a model.

    `code` is the digest of the image that the function has, `$LATEST`, `settings` are its
    settings, and `updating` says that Lambda has not finished updating the function; `refusal` is
    why the last update failed, and `modified` when it was. It is published only
    with this `revision`.
    `images` are those of function versions that no release made. `provisioning` says that Lambda
    itself moves the traffic of `live`, for provisioned concurrency. With `shifting`, traffic moves
    by CodeDeploy, whose deployments are in `shifts`. `now` is in seconds since 1970.

    `odd` are keys below the model that are no names of files. `routed` are aliases that have routes
    of their own, `exposed` those of them whose routes are as they should be; `unseen` is why that
    could not be seen. `refused` are aliases that this run could not give what they lack,
    `stuck` versions that it could not bring any further.
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
    refusal: Refusal | None = None
    modified: str = ""
    revision: str = ""
    images: AbstractSet[str] = frozenset()
    provisioning: bool = False
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    odd: Sequence[str] = ()
    exposed: AbstractSet[str] = frozenset()
    routed: AbstractSet[str] = frozenset()
    unseen: ServingError | None = None
    refused: AbstractSet[str] = frozenset()
    stuck: AbstractSet[int] = frozenset()
    shifting: bool = False
    shifts: Mapping[str, Progress] = field(default_factory=dict)
    now: float = 0

    def record(self, version: int) -> Record | None:
        """What is recorded of a version as it is now."""
        record = self.records.get(version)
        if record and (record.content, record.base) == (self.versions.get(version), self.base):
            return record
        return None

    def recorded(self, version: int, record: Record) -> Self:
        """The same with another record of a version."""
        return replace(self, records={**self.records, version: record})

    def function_version(self, number: int) -> FunctionVersion:
        [found] = [each for each in self.function_versions if each.number == number]
        return found

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
        return published if record and published and _answered(published, record) else None

    def answered(self, version: int) -> FunctionVersion | None:
        """The function version of a model version that answered, be it on an older base image."""
        record, content = self.records.get(version), self.versions.get(version)
        found = [
            each
            for each in self.function_versions
            if record
            and (each.origin.model_version, each.origin.content) == (version, content)
            and _answered(each, record)
        ]
        return found[0] if found else None

    def model_version(self, function_version: int) -> int | None:
        """The model version in a function version, None for one that no release made."""
        found = [each for each in self.function_versions if each.number == function_version]
        return found[0].origin.model_version if found else None

    def addressed(self) -> AbstractSet[int]:
        """The function versions that an alias points to, be it in part."""
        return {
            number
            for alias in self.aliases.values()
            for number in (alias.function_version, *alias.shares)
        }


def _answered(function_version: FunctionVersion, record: Record) -> bool:
    """Whether it is the very one that the record is about."""
    found = (function_version.number, function_version.origin.made)
    return record.error is None and found == (record.warm, record.made)
