"""Release records as JSON: what a release remembers of a model version, for people and itself."""

import json
from dataclasses import asdict, fields

from lambda_serving.errors import DataLoss
from lambda_serving.release.deployment import Record

__all__ = ["of_json", "state_of", "to_json"]

_FIELDS = frozenset(field.name for field in fields(Record))


def state_of(record: Record) -> str:
    """What the fields of a record amount to."""
    if record.error is not None:
        return "FAILED"
    if record.image is None:
        return "UNBUILT" if record.asked is None else "BUILDING"
    return "BUILT" if record.warm is None else "AVAILABLE"


def to_json(record: Record) -> bytes:
    return json.dumps({"state": state_of(record), **asdict(record)}, indent=2).encode() + b"\n"


def of_json(content: bytes, where: str) -> Record:
    """The record of a document; raises DataLoss for one that is none, naming `where` it lies."""
    try:
        document = json.loads(content)
        return Record(**{key: document[key] for key in _FIELDS & document.keys()})
    except (AttributeError, TypeError, ValueError) as error:
        raise DataLoss(f"{where} is not a release record. Delete it: it is made again") from error
