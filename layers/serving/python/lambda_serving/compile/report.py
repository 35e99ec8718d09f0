"""What compiling found and did: a document beside the compiled servable."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lambda_serving.compile.freezer import Frozen
from lambda_serving.compile.variants import Attempt
from lambda_serving.compile.verify import Check

__all__ = ["Report", "Side", "report_path"]


@dataclass(frozen=True, slots=True)
class Side:
    """The export or what became of it: bytes of its files, milliseconds of its work.

    `load` is without opening TensorFlow's library, `first` the first answer, `warm` a later one:
    medians, None where no input was answered. The export's `load` is then that of a single time.
    """

    bytes: int
    load: float | None = None
    first: float | None = None
    warm: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Before and after. `reason` says why a model was left as it is, and `after` is None then.

    `details` is what TensorFlow said when it failed; it is for those who mend the compiler.
    `chosen` is the variant that was the quickest, `variants` are those that were tried.
    `checks` are by signature; `seconds` is how long each stage took.
    """

    source: str
    tensorflow: str
    before: Side
    after: Side | None = None
    reason: str | None = None
    details: str | None = None
    frozen: Frozen | None = None
    chosen: str | None = None
    variants: Sequence[Attempt] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the report as JSON."""
        document: dict[str, Any] = {
            "state": "compiled" if self.after else "left as it is",
            **asdict(self),
        }
        path.write_text(json.dumps(document, indent=2) + "\n")


def report_path(destination: Path) -> Path:
    """Beside the folder, not in it: what is served is the same each time, what it took is not."""
    return destination.with_name(f"{destination.name}.compile.json")
