"""Release records as JSON: what a release remembers of a model version, for people and itself."""

import json
from dataclasses import asdict
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from lambda_serving.errors import DataLoss
from lambda_serving.release.deciding.model_state import Record

__all__ = ["of_json", "state_of", "to_json"]

_FIELDS = get_type_hints(Record)


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
        told = {key: document[key] for key in _FIELDS.keys() & document.keys()}
        record = Record(**told)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise DataLoss(f"{where} is no release record: {error}") from error
    if others := [key for key, value in told.items() if not _fits(value, _FIELDS[key])]:
        raise DataLoss(f"{where} is no release record: it has no such {min(others)}")
    return record


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind that a field is declared to be; floats may be written as 1."""
    declared = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    kinds = [get_origin(each) or each for each in declared]
    return isinstance(value, (*kinds, int) if float in kinds else tuple(kinds))
