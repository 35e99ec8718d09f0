"""A model on AWS: its store and records in S3, its function in Lambda, its routes and images."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import aspired
from lambda_serving.errors import (
    Aborted,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.base_images import BaseImages
from lambda_serving.release.aws.bucket import Versions
from lambda_serving.release.aws.build_orders import Builder, Order
from lambda_serving.release.aws.lambda_functions import ModelFunction
from lambda_serving.release.aws.routes import Exposed, Routes
from lambda_serving.release.aws.traffic_shifts import Shifts
from lambda_serving.release.aws.warming import ask
from lambda_serving.release.deciding.actions import (
    Action,
    Build,
    Expose,
    Fail,
    Halt,
    Point,
    Publish,
    Retire,
    Retry,
    Shift,
    Update,
    Wait,
    Wake,
    Warm,
    Withdraw,
)
from lambda_serving.release.deciding.model_state import LIVE, Deployment, Origin, Progress, Record

__all__ = ["AwsGateway", "Releases"]

_log = logging.getLogger(__name__)
_SHOWN = 10


class Releases(Protocol):
    """A model's versions in the store, and the records of their releases."""

    def versions(self) -> Versions: ...

    def records(self, versions: Iterable[int]) -> Mapping[int, Record]:
        """The records of these versions, as far as there are any."""
        ...

    def record(self, version: int, record: Record) -> None:
        """Replaces the record with that tag; raises Aborted if another one is stored by now."""
        ...

    def golden(self, version: int) -> bytes | None:
        """The file of golden pairs that a version carries, if it has one."""
        ...


@dataclass(frozen=True, kw_only=True)
class AwsGateway:
    """`reconcile.Gateway` of the model `name`.

    `policy` reads which versions are wanted, `bases` which images they are put on; `delete_image`
    takes repository and digest; `report` is told why a version failed, `tell_address` the model and
    the alias that cannot have routes, and why. Raises what `aws.translate_errors` and the releases
    raise.
    """

    name: str
    function: ModelFunction
    routes: Routes
    shifts: Shifts
    releases: Releases
    builder: Builder
    policy: Callable[[], ModelConfig]
    bases: Callable[[], BaseImages]
    delete_image: Callable[[str, str], None]
    report: Callable[[ServableId, str], None]
    tell_address: Callable[[str, str, str], None] = lambda *_: None
    clock: Callable[[], float] = time.time

    def observe(self) -> Deployment:
        """Everything that the next action depends on. Long, because it names each field."""
        policy, versions = self.policy(), self.releases.versions()
        for key in versions.odd[:_SHOWN]:
            _log.warning("%s: the key %r is not a file name, so it is ignored", self.name, key)
        wanted = aspired(policy.policy, {*versions.complete, *versions.settling})
        published, images = self.function.published()
        records = self.releases.records(
            {*wanted, *(each.origin.model_version for each in published)}
        )
        latest, aliases = self.function.latest(), self.function.aliases()
        if LIVE not in aliases:
            raise NotFound(f"Model {self.name} has no alias {LIVE}. Deploy the stack again")
        shifting = self.shifts.wanted()
        has_addresses = len(aliases) > 1 or len(wanted) > 1 or policy.labels
        exposed, unseen = self._exposed(aliases) if has_addresses else (Exposed(), None)
        shifts = {record.shift for record in records.values() if record.shift}
        shifts.update(self.shifts.under_way() if shifting else ())
        return Deployment(
            base=self.bases().digests,
            versions=versions.complete,
            aspired=wanted,
            labels=policy.labels,
            settling=versions.settling,
            odd=versions.odd,
            records=records,
            function_versions=published,
            code=latest.image,
            settings=latest.settings,
            updating=latest.updating,
            refusal=latest.refusal,
            modified=latest.modified,
            revision=latest.revision,
            images=images,
            provisioning=bool(aliases[LIVE].shares) and self.function.provisioning(LIVE),
            aliases=aliases,
            exposed=exposed.all,
            routed=exposed.some,
            unseen=unseen,
            shifting=shifting,
            shifts={shift: self.shifts.state(shift) for shift in shifts},
            now=self.clock(),
        )

    def tell(self, alias: str, error: ServingError) -> None:
        self.tell_address(self.name, alias, str(error))

    def _exposed(self, aliases: Iterable[str]) -> tuple[Exposed, ServingError | None]:
        """An unreadable API is returned as an error, so that versions are still released."""
        try:
            return self.routes.exposed(self.function.arn(), aliases), None
        except ServingError as error:
            return Exposed(), error

    def apply(self, action: Action, seen: Deployment) -> None:  # noqa: C901, PLR0912 a table
        match action:
            case Build(version):
                self._build(version, seen)
            case Update(version):
                self._update(version, seen)
            case Publish(version):
                self._publish(version, seen.records[version], seen.revision)
            case Warm(version, function_version, answered):
                self._warm(version, function_version, answered, seen)
            case Retry(version, function_version):
                self._retry(version, function_version, seen)
            case Wake(function_version):
                self.function.wake(function_version)
            case Fail(version, error):
                self._fail(version, seen.records[version], error)
            case Point(function_version):
                self.function.point(LIVE, function_version, seen.aliases[LIVE])
            case Shift(version, function_version):
                self._shift(version, function_version, seen)
            case Halt():
                self._halt(seen)
            case Expose(alias, function_version):
                self.function.point(alias, function_version, seen.aliases.get(alias))
                self.routes.add(alias, self.function.arn())
            case Withdraw(alias):
                self.routes.remove(alias, self.function.arn())
                self.function.drop_alias(alias)
            case Retire(function_version):
                self._retire(function_version, seen)
            case Wait():
                pass

    def _build(self, version: int, seen: Deployment) -> None:
        former = seen.records.get(version)
        before = seen.record(version) or Record(
            seen.versions[version], seen.base, tag=former.tag if former else None
        )
        started = self.clock()
        record = replace(before, asked=started, builds=before.builds + 1)
        bases = self.bases()
        order = Order(self.name, version, record.content, bases.full, record.tag, bases.lite)
        if self.builder.elsewhere:
            self._order(order, record)
            return
        try:
            image = self.builder.build(order)
        except (Aborted, Unavailable, PermissionDenied):
            raise
        except ServingError as error:
            self._fail(version, record, str(error))
        else:
            if image is not None:
                built = Record(record.content, record.base, image, tag=record.tag)
                self._done(version, built, "build", started)

    def _order(self, order: Order, record: Record) -> None:
        """Sends the order, then records it, unless the build has recorded its outcome by then."""
        self.builder.build(order)
        with suppress(Aborted):
            self.releases.record(order.version, record)

    def _update(self, version: int, seen: Deployment) -> None:
        """Records the refusal of the previous update first, because this update hides it."""
        for other, told in seen.records.items():
            if seen.refusal and told.given == seen.modified and other != version:
                refused = replace(told, trouble=str(seen.refusal), tries=max(2, told.tries))
                self.releases.record(other, refused)
        repository, record = self.bases().repository, seen.records[version]
        with self._noted(version, record):
            try:
                modified = self.function.update(f"{repository}@{record.image}")
            except InvalidArgument as error:
                self._fail(version, record, str(error))
                return
        given = replace(record, given=modified, tries=record.tries + 1, trouble="")
        self.releases.record(version, given)

    def _publish(self, version: int, record: Record, revision: str) -> None:
        made = str(int(1000 * self.clock()))
        with self._noted(version, record):
            self.function.publish(
                Origin(version, record.content, record.image or "", made), revision
            )

    def _retry(self, version: int, function_version: int, seen: Deployment) -> None:
        """Records that the function lacks the image, so that it gets it again before publishing."""
        trouble = str(seen.function_version(function_version).refusal)
        self.function.drop_version(function_version)
        self.releases.record(version, replace(seen.records[version], given=None, trouble=trouble))

    def _warm(self, version: int, function_version: int, answered: int, seen: Deployment) -> None:
        started, record = self.clock(), seen.records[version]
        made = seen.function_version(function_version).origin.made
        with self._noted(version, record):
            found = ask(
                self.function,
                function_version,
                ServableId(self.name, version),
                self.releases.golden(version),
                answered,
                self.clock,
            )
        if found.trouble is not None:
            self._fail(version, record, found.trouble)
            return
        before = record.seconds.get("warm", 0) if answered else 0
        asked = replace(
            record,
            asked_of=function_version,
            answered=found.answered,
            made=made,
            tries=0,
            trouble="",
        )
        if not found.left:
            asked = replace(asked, warm=function_version, shift=None)
        self._done(version, asked, "warm", started - before)

    @contextmanager
    def _noted(self, version: int, record: Record) -> Iterator[None]:
        """Records a temporary failure, so other versions get their turn before the next try."""
        try:
            yield
        except ServingError as error:
            tried = replace(record, tries=record.tries + 1, trouble=str(error))
            self.releases.record(version, tried)
            raise

    def _fail(self, version: int, record: Record, error: str) -> None:
        """Reports before it records: if a run dies in between, the next one reports again."""
        self.report(ServableId(self.name, version), error)
        self.releases.record(version, replace(record, asked=None, error=error))

    def _done(self, version: int, record: Record, step: str, started: float) -> None:
        seconds = {**record.seconds, step: round(self.clock() - started, 3)}
        self.releases.record(version, replace(record, seconds=seconds))

    def _shift(self, version: int, function_version: int, seen: Deployment) -> None:
        before = seen.aliases[LIVE].function_version
        record = seen.records[version]
        with self._noted(version, record):
            shift = self.shifts.start(before, function_version)
        tries = record.tries + (record.shift is not None)
        self.releases.record(version, replace(record, shift=shift, tries=tries, trouble=""))

    def _halt(self, seen: Deployment) -> None:
        """Forgets the shift, then stops it: a stopped one would count as a failed version."""
        for version, record in seen.records.items():
            if record.shift and seen.shifts[record.shift] == Progress():
                self.releases.record(version, replace(record, shift=None))
        self.shifts.stop()

    def _retire(self, function_version: int, seen: Deployment) -> None:
        """Deletes the image last: if the function version cannot be deleted, it keeps its image."""
        found = seen.function_version(function_version)
        version, image = found.origin.model_version, found.origin.image
        others = {each.origin.image for each in seen.function_versions if each is not found}
        self.function.drop_version(function_version)
        if image in {seen.code, *seen.images, *others}:
            return
        record = seen.records.get(version)
        if record and record.image == image:
            self.releases.record(version, replace(record, image=None, warm=None))
        self.delete_image(self.bases().repository, image)
