"""The observed state of one model: its store, its release records, its function."""

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
"""The alias for requests that name neither a version nor a label."""
_DESCRIPTION = re.compile(
    r"model version (\d+), content ([^\s,]+), image ([^\s,]+)(?:, made (\d+))?"
)
_CONDEMNING = re.compile(
    r"InvalidImage|ImageDeleted|SizeLimitExceeded|InvalidRuntime|FunctionError(\..+)?"
    r"|ALARM_ACTIVE|CUSTOMER_APPLICATION_UNHEALTHY|HOOK_EXECUTION_FAILURE|MANUAL_STOP"
)


class State(Enum):
    """The state of a published function version."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"  # asleep after weeks without a request
    FAILED = "Failed"
    OTHER = "other"  # Deactivating, Deleting and whatever Lambda adds: it will change


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Lambda failed to update a function or to start a version, or CodeDeploy to move traffic.

    Source: botocore's enumerations StateReasonCode and LastUpdateStatusReasonCode (Lambda), and
    ErrorCode (CodeDeploy).
    """

    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.code})" if self.code else self.reason

    @property
    def condemns(self) -> bool:
        """Whether the image is at fault: itself, at its start, or under its first traffic.

        All other codes, including unknown ones, are about permissions, networks, keys, quotas or
        AWS itself: they pass or somebody fixes them, and the same image can be used.
        """
        return bool(_CONDEMNING.fullmatch(self.code))


@dataclass(frozen=True, slots=True)
class Origin:
    """What a function version was made from.

    Lambda keeps it as the version's description, so no database is needed. `content` identifies
    the files of the model version; `image` is a digest, `sha256:...`; `made` is when it was
    published, in milliseconds since 1970. A function that is deleted and created again numbers its
    versions from 1 again: only `made` tells these from the old ones.
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
        """The origin in a description; None if no release wrote the description."""
        match = _DESCRIPTION.fullmatch(description)
        return cls(int(match[1]), match[2], match[3], match[4] or "") if match else None


@dataclass(frozen=True, slots=True)
class Record:
    """The release record of a model version, `_releases/NAME/VERSION.json`.

    It is about one content on one pair of base images, whose digests are in `base`. `image` is the
    digest of the image that was built. `warm` is the function version that was warmed, and
    `made` is that of its origin. `error` is why the version will not be tried again. During
    warming, `asked_of` is the function version that has given the first `answered` golden
    answers. During a build, `asked` is when the image was ordered, and `builds` how often.

    `given` is Lambda's LastModified when the function got the image. `tries` counts updates and
    failed calls since the version last answered, and `trouble` is why the last one failed. `shift`
    is CodeDeploy's deployment that moves traffic to it. `seconds` are the durations of steps, and
    `changed` is when the record was written; `asked` and `changed` are in seconds since 1970. `tag`
    is the ETag of the stored record, None if there is none yet: only that one is replaced.
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
        """How many golden pairs a function version has answered correctly."""
        asked = (function_version.number, function_version.origin.made)
        return self.answered if asked == (self.asked_of, self.made) else 0


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """A published version of the function.

    `settings` identifies its memory, environment and so on, as they were when it was published;
    `refusal` is why Lambda could not start it, or Lambda's reason for any other state.
    """

    number: int
    origin: Origin
    state: State
    settings: str = ""
    refusal: Refusal = Refusal("", "")


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an alias points; `shares` are the function versions that get part of its requests.

    Version 0 is `$LATEST`; no release points an alias to it. The alias is moved only if nobody
    else has changed it since this `revision`.
    """

    function_version: int
    revision: str = ""
    shares: AbstractSet[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a CodeDeploy deployment: under way, `done`, or `failed` with the reason."""

    done: bool = False
    failed: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One look at a model.

    `versions` are the complete versions, with an identifier of their content; `settling` are the
    others, with the seconds until they may be complete. `aspired` are the versions of both that the
    policy wants, largest first. `base` are the digests of the images without a
    model.

    `code` is the digest of the function's current image, `$LATEST`; `settings` identifies its
    settings; `updating` says that Lambda has not finished updating it; `refusal` is why the last
    update failed, and `modified` when it was. It can be published only at this `revision`. `images`
    are the images of function versions that no release made. `provisioning` says that Lambda itself
    moves the traffic of `live`, for provisioned concurrency. With `shifting`, CodeDeploy moves
    traffic, by the deployments in `shifts`. `now` is in seconds since 1970.

    `odd` are keys below the model that are not names of files. `routed` are aliases with routes of
    their own, and `exposed` those whose routes are all correct; `unseen` is the error if routes
    could not be read. In this run, `refused` are aliases that did not get what they lack, and
    `stuck` versions whose next step failed.
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
        """The record of a version's current content on the current base image, if there is one."""
        record = self.records.get(version)
        if record and (record.content, record.base) == (self.versions.get(version), self.base):
            return record
        return None

    def recorded(self, version: int, record: Record) -> Self:
        """The same state with another record of a version."""
        return replace(self, records={**self.records, version: record})

    def function_version(self, number: int) -> FunctionVersion:
        [found] = [each for each in self.function_versions if each.number == number]
        return found

    def published(self, version: int) -> FunctionVersion | None:
        """The newest function version of a model version with its current image and settings.

        Other files may compile to the same image, and Lambda publishes an image only once: so the
        content of its origin does not count.
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
        """The function version of a model version that lacks nothing and has not failed."""
        record, published = self.record(version), self.published(version)
        return published if record and published and _answered(published, record) else None

    def answered(self, version: int) -> FunctionVersion | None:
        """The function version of a model version that has answered, on whatever base image."""
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
        """The model version in a function version; None if no release made it."""
        found = [each for each in self.function_versions if each.number == function_version]
        return found[0].origin.model_version if found else None

    def addressed(self) -> AbstractSet[int]:
        """The function versions that get requests through an alias, all of them or a part."""
        return {
            number
            for alias in self.aliases.values()
            for number in (alias.function_version, *alias.shares)
        }


def _answered(function_version: FunctionVersion, record: Record) -> bool:
    """Whether the record says that this very function version has answered."""
    found = (function_version.number, function_version.origin.made)
    return record.error is None and found == (record.warm, record.made)
