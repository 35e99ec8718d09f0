"""A call and what it took, for those who are told of calls when they have ended.

Where nobody is to be told there is no record, and nothing is measured.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

from lambda_serving.dtypes import Array

__all__ = ["OK", "CallRecord", "Observer", "Observers", "request_id"]

OK = "OK"
_SANE_ID = re.compile(r"[!-~]{1,128}")


@dataclass(slots=True)
class CallRecord:
    """Filled while a call goes on, in whatever thread it is; only read once it has ended.

    `entrypoint` is REST, GRPC or GRPC-WEB. Seconds are None for what did not happen.
    """

    entrypoint: str
    request_id: str = ""
    api: str = ""
    """As TensorFlow Serving labels it: `predict` by REST, `Predict` by gRPC, else empty."""
    model: str = ""
    """The name that was asked for, served or not."""
    version: int | None = None
    """The one that answered."""
    signature: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    outputs: Mapping[str, Array] = field(default_factory=dict)
    body_bytes: int = 0
    status: str = OK
    """The name of its canonical code."""
    seconds: float = 0.0
    queue_seconds: float | None = None
    """From the end of the body to the start of work on it."""
    decode_seconds: float | None = None
    run_seconds: float | None = None
    """Of the graph; with batching of waiting for its batch, too."""
    _began: float = field(default_factory=perf_counter)
    _since: float = 0.0

    @property
    def rows(self) -> int:
        """The first dimension of the first input, 1 for a scalar, 0 if nothing was decoded."""
        first = next(iter(self.inputs.values()), None)
        return 0 if first is None else (len(first) if first.ndim else 1)

    def received(self, body_bytes: int) -> None:
        self.body_bytes = body_bytes
        self._since = perf_counter()

    def begun(self) -> None:
        """Work on the body starts."""
        now = perf_counter()
        self.queue_seconds, self._since = now - self._since, now

    def decoded(self, version: int, signature: str, inputs: Mapping[str, Array]) -> None:
        """It is known what is to run; a call of several runs says so for each."""
        now = perf_counter()
        self.version, self.signature, self.inputs = version, signature, inputs
        self.decode_seconds = (self.decode_seconds or 0.0) + now - self._since
        self._since = now

    def ran(self, outputs: Mapping[str, Array]) -> None:
        now = perf_counter()
        self.outputs = outputs
        self.run_seconds = (self.run_seconds or 0.0) + now - self._since
        self._since = now

    def ended(self) -> None:
        self.seconds = perf_counter() - self._began


Observer = Callable[[CallRecord], None]
"""Told of a call that has ended, by any thread; must not raise, and should not take long."""


class Observers:
    """Who is told of the calls of a server; false as long as there is nobody.

    Somebody may come later, when a new config has requests logged.
    """

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        self._observers = (*self._observers, observer)

    def tell(self, record: CallRecord) -> None:
        """Ends the record, and tells everybody."""
        record.ended()
        for observer in self._observers:
            observer(record)


def request_id(given: str) -> str:
    """The id that a client gave if it is printable and at most 128 long, else a new one."""
    return given if _SANE_ID.fullmatch(given) else os.urandom(16).hex()
