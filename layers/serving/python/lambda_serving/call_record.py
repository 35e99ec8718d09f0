"""What a call asked for and how long its parts took, told to observers when it has ended."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

from lambda_serving.dtypes import Array

__all__ = ["OK", "UNRECORDED", "CallRecord", "Observer", "Observers", "request_id"]

OK = "OK"
_SANE_ID = re.compile(r"[!-~]{1,128}")


@dataclass(slots=True)
class CallRecord:
    """Filled during a call, by whichever thread works on it; read only once the call has ended.

    `entrypoint` is REST, GRPC or GRPC-WEB. Seconds are None for what did not happen.
    """

    entrypoint: str
    request_id: str = ""
    api: str = ""
    """As TensorFlow Serving labels it: `predict` for REST, `Predict` for gRPC, else empty."""
    model: str = ""
    """The name in the request, whether such a model is served or not."""
    version: int | None = None
    """The version that answered."""
    signature: str = ""
    inputs: Mapping[str, Array] = field(default_factory=dict)
    outputs: Mapping[str, Array] = field(default_factory=dict)
    body_bytes: int = 0
    status: str = OK
    """The name of the canonical code."""
    seconds: float = 0.0
    queue_seconds: float | None = None
    """From the end of the body to the start of work on it."""
    decode_seconds: float | None = None
    run_seconds: float | None = None
    """The graph's run; with batching, the wait for a batch too."""
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
        """Marks the start of work on the body."""
        now = perf_counter()
        self.queue_seconds, self._since = now - self._since, now

    def decoded(self, version: int, signature: str, inputs: Mapping[str, Array]) -> None:
        """Notes what is about to run; a call with several runs notes each."""
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


class _Unrecorded(CallRecord):
    """Measures nothing and keeps no tensors."""

    def received(self, body_bytes: int) -> None: ...
    def begun(self) -> None: ...
    def decoded(self, version: int, signature: str, inputs: Mapping[str, Array]) -> None: ...
    def ran(self, outputs: Mapping[str, Array]) -> None: ...


UNRECORDED: CallRecord = _Unrecorded("")
"""Stands for every call that nobody observes; observers are never told of it."""

Observer = Callable[[CallRecord], None]
"""Receives a call that has ended, on any thread; must be quick and must not raise."""


class Observers:
    """Who is told of a server's calls; false while there is nobody.

    An observer may be added later, when a new config turns on request logging.
    """

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        self._observers = (*self._observers, observer)

    def record(self, entrypoint: str, request_id: str = "", api: str = "") -> CallRecord:
        """The record for a call that begins: `UNRECORDED` while there are no observers."""
        return CallRecord(entrypoint, request_id, api) if self._observers else UNRECORDED

    def tell(self, record: CallRecord) -> None:
        """Ends the record and passes it to every observer."""
        if record is UNRECORDED:
            return
        record.ended()
        for observer in self._observers:
            observer(record)


def request_id(given: str) -> str:
    """The client's id if it is 1 to 128 printable ASCII characters, else a new random one."""
    return given if _SANE_ID.fullmatch(given) else os.urandom(16).hex()
