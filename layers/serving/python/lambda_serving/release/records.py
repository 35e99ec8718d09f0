"""Release records as JSON: what a release remembers of a model version, for people and itself."""

import json
from dataclasses import asdict

from lambda_serving.errors import DataLoss
from lambda_serving.release.deployment import Record

__all__ = ["of_json", "to_json"]

_FIELDS = frozenset(("manifest", "base", "image", "warm", "error"))


def to_json(record: Record) -> bytes:
    """The record as a document, with the state that its fields amount to."""
    state = "FAILED" if record.error else "AVAILABLE" if record.warm else "BUILT"
    return json.dumps({"state": state, **asdict(record)}, indent=2).encode() + b"\n"


def of_json(content: bytes, where: str) -> Record:
    """The record of a document; raises DataLoss for one that is none, naming `where` it lies."""
    try:
        document = json.loads(content)
        return Record(**{key: document[key] for key in _FIELDS})
    except (KeyError, TypeError, ValueError) as error:
        raise DataLoss(f"{where} is not a release record. Delete it: it is made again") from error
