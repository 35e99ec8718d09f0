"""The actions of a release, and the state that each is expected to lead to.

`expected(seen)` is the state after the action, if it succeeds and takes no time: a dry run goes
from step to step by it. `str` says in a sentence what the action does.
"""

from dataclasses import dataclass, replace

from lambda_serving.release.deciding.model_state import (
    LIVE,
    Alias,
    Deployment,
    FunctionVersion,
    Origin,
    Progress,
    Record,
    State,
)

__all__ = [
    "Action",
    "Build",
    "Expose",
    "Fail",
    "Halt",
    "Point",
    "Publish",
    "Retire",
    "Retry",
    "Shift",
    "Update",
    "VersionAction",
    "Wait",
    "Wake",
    "Warm",
    "Withdraw",
]


@dataclass(frozen=True, slots=True)
class Build:
    """Compile the version and make its image; the outcome is recorded."""

    version: int

    def __str__(self) -> str:
        return f"Build the image of version {self.version}"

    def expected(self, seen: Deployment) -> Deployment:
        image = f"image of version {self.version}"
        return seen.recorded(self.version, Record(seen.versions[self.version], seen.base, image))


@dataclass(frozen=True, slots=True)
class Update:
    """Give the function the version's image."""

    version: int

    def __str__(self) -> str:
        return f"Give the function the image of version {self.version}"

    def expected(self, seen: Deployment) -> Deployment:
        record = replace(seen.records[self.version], given="now")
        seen = replace(seen, code=record.image or "", refusal=None, modified="now")
        return seen.recorded(self.version, record)


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a version of the function as it is, with the model version's image."""

    version: int

    def __str__(self) -> str:
        return f"Publish version {self.version} as a version of the function"

    def expected(self, seen: Deployment) -> Deployment:
        record = seen.records[self.version]
        number = 1 + max((each.number for each in seen.function_versions), default=0)
        origin = Origin(self.version, record.content, record.image or "")
        made = FunctionVersion(number, origin, State.ACTIVE, seen.settings)
        return replace(seen, function_versions=[*seen.function_versions, made])


@dataclass(frozen=True, slots=True)
class Warm:
    """Invoke the function version until it has answered everything; the outcome is recorded.

    It has given `answered` golden answers so far and is asked for the next ones.
    """

    version: int
    function_version: int
    answered: int = 0

    def __str__(self) -> str:
        before = f", after {self.answered} golden answers" if self.answered else ""
        return f"Try version {self.version} in function version {self.function_version}{before}"

    def expected(self, seen: Deployment) -> Deployment:
        made = seen.function_version(self.function_version).origin.made
        record = replace(
            seen.records[self.version], warm=self.function_version, made=made, tries=0, shift=None
        )
        return seen.recorded(self.version, record)


@dataclass(frozen=True, slots=True)
class Retry:
    """Delete a function version that Lambda could not start for a temporary reason."""

    version: int
    function_version: int

    def __str__(self) -> str:
        return (
            f"Delete function version {self.function_version}, which Lambda could not start, to"
            f" publish version {self.version} again"
        )

    def expected(self, seen: Deployment) -> Deployment:
        return _without(self.function_version, seen)


@dataclass(frozen=True, slots=True)
class Wake:
    """Have Lambda reactivate a function version that it put to sleep."""

    function_version: int

    def __str__(self) -> str:
        return f"Reactivate function version {self.function_version}"

    def expected(self, seen: Deployment) -> Deployment:
        awake = [
            replace(each, state=State.ACTIVE) if each.number == self.function_version else each
            for each in seen.function_versions
        ]
        return replace(seen, function_versions=awake)


@dataclass(frozen=True, slots=True)
class Fail:
    """Record that the version has failed, and why; it is not tried again unless it changes."""

    version: int
    error: str

    def __str__(self) -> str:
        return f"Record that version {self.version} failed: {self.error}"

    def expected(self, seen: Deployment) -> Deployment:
        return seen.recorded(self.version, replace(seen.records[self.version], error=self.error))


@dataclass(frozen=True, slots=True)
class Point:
    """Move all traffic of the alias `live` at once."""

    function_version: int

    def __str__(self) -> str:
        return f"Make function version {self.function_version} live"

    def expected(self, seen: Deployment) -> Deployment:
        return _pointed(LIVE, self.function_version, seen)


@dataclass(frozen=True, slots=True)
class Shift:
    """Have CodeDeploy move the traffic of the alias `live` step by step."""

    version: int
    function_version: int

    def __str__(self) -> str:
        return (
            f"Have CodeDeploy move traffic to version {self.version},"
            f" function version {self.function_version}"
        )

    def expected(self, seen: Deployment) -> Deployment:
        return _pointed(LIVE, self.function_version, seen)


@dataclass(frozen=True, slots=True)
class Halt:
    """Have CodeDeploy stop and move the traffic back."""

    def __str__(self) -> str:
        return "Have CodeDeploy stop and move the traffic back"

    def expected(self, seen: Deployment) -> Deployment:
        shifts = {name: shift for name, shift in seen.shifts.items() if shift != Progress()}
        return replace(seen, shifts=shifts)


@dataclass(frozen=True, slots=True)
class Expose:
    """Point the alias of a version or a label there, and create its routes."""

    alias: str
    function_version: int

    def __str__(self) -> str:
        return (
            f"Give {self.alias} an address that leads to function version {self.function_version}"
        )

    def expected(self, seen: Deployment) -> Deployment:
        seen = _pointed(self.alias, self.function_version, seen)
        return replace(seen, exposed={*seen.exposed, self.alias})


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Delete the routes and the alias of a version or a label."""

    alias: str

    def __str__(self) -> str:
        return f"Remove the address of {self.alias}"

    def expected(self, seen: Deployment) -> Deployment:
        aliases = {name: alias for name, alias in seen.aliases.items() if name != self.alias}
        exposed, routed = seen.exposed - {self.alias}, seen.routed - {self.alias}
        return replace(seen, aliases=aliases, exposed=exposed, routed=routed)


@dataclass(frozen=True, slots=True)
class Retire:
    """Delete a function version, and its image if no other one uses it."""

    function_version: int

    def __str__(self) -> str:
        return f"Delete function version {self.function_version}, and its image if it is unused"

    def expected(self, seen: Deployment) -> Deployment:
        return _without(self.function_version, seen)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet: look again after `seconds`, or when an event arrives if that is None."""

    what: str
    seconds: float | None = None

    def __str__(self) -> str:
        return f"Wait: {self.what}"

    def expected(self, seen: Deployment) -> Deployment:
        return seen


VersionAction = Build | Update | Publish | Warm | Retry | Fail
"""Actions for one version only: their failure does not hold up other versions."""
Action = VersionAction | Wake | Point | Shift | Halt | Expose | Withdraw | Retire | Wait


def _pointed(alias: str, function_version: int, seen: Deployment) -> Deployment:
    return replace(seen, aliases={**seen.aliases, alias: Alias(function_version)})


def _without(function_version: int, seen: Deployment) -> Deployment:
    left = [each for each in seen.function_versions if each.number != function_version]
    return replace(seen, function_versions=left)
