"""What a job did with a file, recorded so that the next run of the job need not do it again."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from lambda_serving.batch_job.readers import RowFormat
from lambda_serving.store.manifest import File
from lambda_serving.store.patterns import Input

__all__ = ["Assignment", "Receipt", "digest"]


def digest(folder: Path, variant: str = "") -> str:
    """What tells models apart: the sha256, in hex, of the names and contents of all files.

    `variant` names which of several models in the folder is meant; the usual one has no name.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = "".join(f"{File.of(path).sha256} {path.relative_to(folder)}\n" for path in paths)
    return sha256((named + variant).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class Assignment:
    """What to do with a file; equal assignments give equal outputs.

    `model` is the digest of the model.
    """

    input: Input
    model: str
    signature_name: str
    row_format: RowFormat

    @property
    def output(self) -> str:
        """The name of the file of predictions."""
        extension = "npz" if self.row_format is RowFormat.NPZ else "jsonl"
        return f"{self.input.name}.{extension}"

    @property
    def errors(self) -> str:
        """The name of the file that lists bad rows."""
        return f"{self.input.name}.errors.jsonl"

    @property
    def receipt(self) -> str:
        """The name of the file for the `Receipt`."""
        return f"{self.input.name}.done.json"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of a file that is done; `size` is the output's, in bytes."""

    task: Assignment
    rows: int
    bad_rows: int
    size: int

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def of_json(cls, data: bytes) -> Self | None:
        """None for anything else, such as an earlier format: then the file is done again."""
        try:
            document = json.loads(data)
            task = document.pop("task")
            file, row_format = Input(**task.pop("input")), RowFormat(task.pop("row_format"))
            return cls(Assignment(file, row_format=row_format, **task), **document)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
