"""A store and a loader in memory, which tests control."""

from dataclasses import dataclass, field
from pathlib import Path

from lambda_serving.errors import ServingError
from lambda_serving.model_spec import ServableId
from lambda_serving.servables.servable import Servable

__all__ = ["MemoryLoader", "MemoryStore"]


@dataclass
class MemoryStore:
    """Versions by model; a version's folder is named after it. `broken` is raised instead."""

    present: dict[str, list[int]]
    broken: dict[str, Exception] = field(default_factory=dict)
    unfetchable: dict[ServableId, ServingError] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    fingerprints: dict[ServableId, str] = field(default_factory=dict)
    released: list[ServableId] = field(default_factory=list)

    def versions(self, name: str) -> list[int]:
        self.listed.append(name)
        if error := self.broken.get(name):
            raise error
        return self.present[name]

    def contents(self, name: str) -> list[str]:
        return ["tmp", name]

    def fetch(self, servable: ServableId) -> Path:
        if error := self.unfetchable.get(servable):
            raise error
        return Path(servable.name, str(servable.version))

    def fingerprint(self, servable: ServableId) -> str:
        return self.fingerprints.get(servable, "files")

    def release(self, servable: ServableId) -> None:
        self.released.append(servable)


@dataclass
class MemoryLoader:
    """Makes servables without signatures; raises what is `broken`, keeps what it did."""

    broken: dict[str, Exception] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def __call__(self, path: Path) -> Servable:
        if error := self.broken.get(str(path)):
            raise error
        self.loaded.append(str(path))
        return Servable({}, {}, definitions={}, close=lambda: self.closed.append(str(path)))
