"""Names of servables: one loaded version, and the version that a request asks for."""

from typing import NamedTuple

__all__ = ["ModelSpec", "ServableId"]


class ServableId(NamedTuple):
    """One version of one model, e.g. `{name: MLP version: 1}`."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class ModelSpec(NamedTuple):
    """What a request asks for: a version, a label's version, or the latest."""

    name: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        """As TensorFlow Serving's messages name it (core/servable_id.h, core/manager.h)."""
        if self.version is None:
            return f"Latest({self.name})"
        return f"Specific({self.name}, {self.version})"
