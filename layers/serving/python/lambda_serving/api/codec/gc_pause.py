"""Python's collector of cycles rests while large requests are read.

JSON has no cycles. The collector would look at all its lists again and again as they grow in
number, which doubles the time, and lets no other thread run meanwhile.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

__all__ = ["Collector"]

_LARGE = 2**18  # bytes of a text
_LONGEST_SECONDS = 30


class Collector:
    """The collector, and how many large texts are being read; safe to use from several threads.

    One text after another may keep it at rest, but for no longer than half a minute.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._reading = 0
        self._since = 0.0

    @contextmanager
    def rests_for(self, text: bytes) -> Iterator[None]:
        """It rests inside the block if the text is large."""
        if len(text) < _LARGE:
            yield
            return
        self._rest()
        try:
            yield
        finally:
            self._go_on()

    def _rest(self) -> None:
        with self._lock:
            if not self._reading:
                self._since = monotonic()
                gc.disable()
            self._reading += 1

    def _go_on(self) -> None:
        with self._lock:
            self._reading -= 1
            overdue = monotonic() - self._since > _LONGEST_SECONDS
            if overdue:
                self._since = monotonic()
            if not self._reading:
                gc.enable()
        if overdue:
            gc.collect()
