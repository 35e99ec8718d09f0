"""What is seen of one model: in its store, in its release records, in Lambda."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

__all__ = ["Deployment", "FunctionVersion", "Origin", "Record", "State"]

_DESCRIPTION = re.compile(r"model version (\d+), manifest (\S+), image (\S+)")


class State(Enum):
    """Of a published function version; other states of Lambda count as one of these."""

    PENDING = "Pending"
    ACTIVE = "Active"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a function version was made of.

    Lambda keeps it as the version's description, so that it can be read without a database.
    `manifest` and `image` are digests, `sha256:...`.
    """

    model_version: int
    manifest: str
    image: str

    def __str__(self) -> str:
        return f"model version {self.model_version}, manifest {self.manifest}, image {self.image}"

    @classmethod
    def of(cls, description: str) -> Self | None:
        """The origin that a description tells, None for one of somebody else."""
        match = _DESCRIPTION.fullmatch(description)
        return cls(int(match[1]), match[2], match[3]) if match else None


@dataclass(frozen=True, slots=True)
class Record:
    """What was recorded of a model version, `_releases/NAME/VERSION.json`.

    It holds for one manifest on one base image; of others it says nothing. `image` is the digest
    of what was built, `warm` the function version that was warmed, `error` why the version will
    not be tried again.
    """

    manifest: str
    base: str
    image: str | None = None
    warm: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """A published version of the function; `reason` is Lambda's, for one that failed."""

    number: int
    origin: Origin
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One look at a model.

    `base` is the digest of the image without a model, `manifests` those of the complete versions.
    `code` is the digest of the image that the function has, `$LATEST`, and `updating` says that
    Lambda is still at giving it to it. `live` is the function version that the alias of this name
    points to, `revision` the alias's: it moves only if nobody else has moved it since.
    """

    base: str
    manifests: Mapping[int, str]
    records: Mapping[int, Record] = field(default_factory=dict)
    function_versions: Sequence[FunctionVersion] = ()
    code: str = ""
    updating: bool = False
    live: int | None = None
    revision: str = ""

    def record(self, version: int) -> Record | None:
        """What is recorded of a version as it is now."""
        record = self.records.get(version)
        if record and (record.manifest, record.base) == (self.manifests.get(version), self.base):
            return record
        return None

    def published(self, version: int) -> FunctionVersion | None:
        """The newest function version of a model version as it was built last.

        Of its origin the image counts: other files may well compile to the same one, and Lambda
        publishes the same image only once.
        """
        record = self.record(version)
        image = record.image if record else None
        found = [
            each
            for each in self.function_versions
            if (each.origin.model_version, each.origin.image) == (version, image)
        ]
        return max(found, key=lambda each: each.number, default=None)
