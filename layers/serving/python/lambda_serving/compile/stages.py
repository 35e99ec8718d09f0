"""The stages of a compilation: each is announced, and its seconds are measured."""

from collections.abc import Callable
from time import perf_counter

__all__ = ["Progress", "Stages"]

Progress = Callable[[str], None]
"""Called with the name of each stage when it begins."""


class Stages:
    """Announces stages to `progress`; a stage may begin several times."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._stage, self._start = "", perf_counter()

    def begin(self, name: str) -> None:
        """Ends the previous stage and begins this one."""
        self.end()
        self._stage = name
        self._progress(name)

    def end(self) -> dict[str, float]:
        """Ends the last stage; returns the seconds of each."""
        now = perf_counter()
        if self._stage:
            before = self._seconds.get(self._stage, 0.0)
            self._seconds[self._stage] = round(before + now - self._start, 3)
        self._stage, self._start = "", now
        return self._seconds
