"""Python's garbage collector is off while large requests are read.

JSON has no cycles. As its lists grow in number, the collector would go through all of them again
and again: reading would take twice as long, and no other thread could run meanwhile.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

__all__ = ["Collector"]

_LONGEST_SECONDS = 30


class Collector:
    """Switches the collector off while large texts are read; safe to use from several threads.

    If one text after another keeps it off, it runs once every half minute.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._reading = 0
        self._since = 0.0

    @contextmanager
    def off(self) -> Iterator[None]:
        """Keeps the collector off during the block."""
        self._switch_off()
        try:
            yield
        finally:
            self._switch_on()

    def _switch_off(self) -> None:
        with self._lock:
            if not self._reading:
                self._since = monotonic()
                gc.disable()
            self._reading += 1

    def _switch_on(self) -> None:
        with self._lock:
            self._reading -= 1
            overdue = monotonic() - self._since > _LONGEST_SECONDS
            if overdue:
                self._since = monotonic()
            if not self._reading:
                gc.enable()
        if overdue:
            gc.collect()
