"""What compiling found and did: a JSON file beside the compiled servable."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lambda_serving.compile.freezer import Frozen
from lambda_serving.compile.runtimes import Runtime
from lambda_serving.compile.variants import Attempt
from lambda_serving.compile.verify import Check

__all__ = ["Report", "Side", "report_path"]


@dataclass(frozen=True, slots=True)
class Side:
    """The export, or its compiled servable: bytes of its files, and times in milliseconds.

    `load` excludes opening TensorFlow's library; `first` is the first answer, `warm` a later one.
    All are medians, or None if no input was answered; the export's `load` is then a single time.
    """

    bytes: int
    load: float | None = None
    first: float | None = None
    warm: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Before and after. If a model was left as it is, `reason` says why and `after` is None.

    `details` is TensorFlow's output when it failed, for those who fix the compiler. `chosen` is the
    quickest variant, `variants` are those tried for TensorFlow. `checks` are by signature,
    `seconds` by stage. `runtime` is the one it was compiled for.
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
    runtime: Runtime = field(default_factory=Runtime)
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
    """The report's path: beside the folder, so that compiling again gives the same folder."""
    return destination.with_name(f"{destination.name}.compile.json")
