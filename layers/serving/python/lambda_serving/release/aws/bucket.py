"""A model in its bucket: its versions, and the records of their releases as JSON.

A pushed version is complete once it has its manifest. A version that was copied in another way,
such as `aws s3 sync`, is complete once no file of the SavedModel is missing and nothing has changed
for `SETTLED_SECONDS`. One request lists all versions of a model. Records lie beside the model, in
`_releases/NAME/VERSION.json`, which is below no base path.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from lambda_serving.errors import Aborted, DataLoss, Unavailable
from lambda_serving.release.deciding.model_state import Record
from lambda_serving.release.golden import GOLDEN
from lambda_serving.store.address import Address
from lambda_serving.store.completeness import check_complete
from lambda_serving.store.manifest import MANIFEST, PUSH
from lambda_serving.store.names import by_version
from lambda_serving.store.s3_client import Object, S3Folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["SETTLED_SECONDS", "BucketReleases", "Versions", "state_of"]

SETTLED_SECONDS = 60.0
_RECORDS = "_releases"
_FIELDS = {name: kind for name, kind in get_type_hints(Record).items() if name != "tag"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Versions:
    """Complete versions with an identifier of their content, others with the seconds until then.

    `odd` are keys that are not names of files; they are ignored.
    """

    complete: Mapping[int, str]
    settling: Mapping[int, float]
    odd: Sequence[str] = field(default_factory=list)


class BucketReleases:
    """The model of a base path `s3://bucket/prefix/NAME`.

    Raises InvalidArgument for a base path without a name, and what `store.s3_client` makes of S3's
    errors.
    """

    def __init__(
        self,
        base_path: str,
        client: "S3Client | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        address = Address.in_bucket(base_path)
        models, self.name = address.parent_and_name()
        self._model = S3Folder(address, client)
        self._records = S3Folder(models / _RECORDS / self.name, self._model.client)
        self._clock = clock

    def versions(self) -> Versions:
        """Takes one request for every thousand files of the model."""
        files: dict[str, dict[str, Object]] = {}
        odd: list[str] = []
        for name, found in self._model.objects(odd.append).items():
            folder, _, rest = name.partition("/")
            if rest:
                files.setdefault(folder, {})[rest] = found
        complete: dict[int, str] = {}
        settling: dict[int, float] = {}
        for version, folder in by_version(files).items():
            if MANIFEST in files[folder]:
                complete[version] = _pushed(files[folder])
            elif self._has_all(folder, files[folder]):
                changed = max(each.changed for each in files[folder].values())
                left = changed + SETTLED_SECONDS - self._clock()
                if left > 0:
                    settling[version] = left
                else:
                    complete[version] = _content(files[folder])
        return Versions(complete, settling, [f"{self._model.address.prefix}{name}" for name in odd])

    def records(self, versions: Iterable[int]) -> Mapping[int, Record]:
        """The records of these versions: takes one request, and one more for each record.

        A stored record that cannot be read is logged and returned as an empty one, so that it is
        written anew.
        """
        there = self._records.objects(lambda _: None)
        found = {each: self._record(each) for each in sorted(versions) if f"{each}.json" in there}
        return {version: record for version, record in found.items() if record}

    def record(self, version: int, record: Record) -> None:
        """Replaces the stored record that has the ETag `record.tag`.

        Raises Aborted if another one is stored by now, or none.
        """
        name, content = f"{version}.json", _to_json(replace(record, changed=self._clock()))
        if not self._records.put(name, content, "application/json", record.tag):
            raise Aborted(f"{self._records}/{name} was changed by another run or build meanwhile")

    def golden(self, version: int) -> bytes | None:
        """The file of golden pairs that a version carries, if it has one."""
        folder = by_version(self._model.folders()).get(version)
        found = None if folder is None else self._model.find(f"{folder}/{GOLDEN}")
        return found[0] if found else None

    def _has_all(self, folder: str, files: Mapping[str, Object]) -> bool:
        if PUSH in files:
            return False
        try:
            check_complete(f"{self._model}/{folder}", files.keys(), None)
        except Unavailable:
            return False
        return True

    def _record(self, version: int) -> Record | None:
        name = f"{version}.json"
        if not (found := self._records.find(name)):
            return None
        content, tag = found
        try:
            record = _of_json(content, f"{self._records}/{name}")
        except DataLoss as error:
            _log.warning("%s. It will be written anew", error)
            record = Record(content="", base="")
        return replace(record, tag=tag)


def _pushed(files: Mapping[str, Object]) -> str:
    """Identifies the content by the manifest and the names of the files: one may come later."""
    told = "\n".join([files[MANIFEST].tag, *sorted(files)])
    return hashlib.sha256(told.encode()).hexdigest()


def _content(files: Mapping[str, Object]) -> str:
    told = "".join(f"{name}\0{found.size}\0{found.tag}\n" for name, found in sorted(files.items()))
    return hashlib.sha256(told.encode()).hexdigest()


def state_of(record: Record) -> str:
    """The state of a version, in one word, from the fields of its record."""
    if record.error is not None:
        return "FAILED"
    if record.image is None:
        return "UNBUILT" if record.asked is None else "BUILDING"
    return "BUILT" if record.warm is None else "AVAILABLE"


def _to_json(record: Record) -> bytes:
    told = {name: value for name, value in asdict(record).items() if name in _FIELDS}
    return json.dumps({"state": state_of(record), **told}, indent=2).encode() + b"\n"


def _of_json(content: bytes, where: str) -> Record:
    """The record in a document; raises DataLoss, naming `where` it lies, if there is none."""
    try:
        document = json.loads(content)
        told = {key: document[key] for key in _FIELDS.keys() & document.keys()}
        record = Record(**told)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise DataLoss(f"{where} is not a release record: {error}") from error
    if others := [key for key, value in told.items() if not _fits(value, _FIELDS[key])]:
        raise DataLoss(f"{where} is not a release record: its {min(others)} has another type")
    return record


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value has the type that a field declares; a float may be written as 1."""
    declared = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    kinds = [get_origin(each) or each for each in declared]
    return isinstance(value, (*kinds, int) if float in kinds else tuple(kinds))
