"""Logs sampled requests to files, in a thread of its own, for models whose config says so.

Source: config/logging_config.proto, core/request_logger.cc. TensorFlow Serving's own server can
only read such configs: it has no code that writes the files.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Full, Queue
from typing import Self

from lambda_serving.call_record import OK, CallRecord
from lambda_serving.config.model_config import Logging, ModelConfig
from lambda_serving.core import threads
from lambda_serving.errors import Code
from lambda_serving.monitoring.prediction_logs import LOGGED, prediction_log
from lambda_serving.monitoring.request_log_files import LogFiles

__all__ = ["RequestLog"]

_log = logging.getLogger(__name__)
_MOST_WAITING = 256
_MOST_WAITING_BYTES = 64 * 2**20
_CALM_SECONDS = 60  # so that a disk that is almost full is not reported again and again

_Sampled = tuple[Logging, CallRecord]
_Work = _Sampled | frozenset[str] | None
"""A sampled call, the file prefixes to keep, or None to end."""


class RequestLog:
    """An observer of calls that logs a sample of those that succeeded.

    Callers never wait for files: requests are dropped while too many wait. `count` gets the model
    and the status code of each sampled request. The end of the `with` block writes what waits.
    """

    def __init__(
        self,
        count: Callable[[str, str], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._clock = clock
        self._models: Mapping[str, Logging] = {}
        self._queue: Queue[_Work] = Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._files: dict[str, LogFiles] = {}
        self._losses: dict[str, tuple[int, float]] = {}  # by prefix: how many, and when the last
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threads.start("request log", self._step, daemon=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._models = {}
        self._queue.put(None)
        if self._thread:
            self._thread.join()

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """Logs these models from now on as their configs say, and closes the files of others."""
        self._models = {model.name: model.logging for model in models if model.logging}
        self._queue.put(frozenset(each.filename_prefix for each in self._models.values()))

    def __call__(self, record: CallRecord) -> None:
        config = self._models.get(record.model)
        if config is None or record.status != OK or record.api.lower() not in LOGGED:
            return
        if random.random() >= config.sampling_rate:  # noqa: S311 - a sample need not be secret
            return
        size = _size(record)
        with self._lock:
            fits = self._waiting_bytes + size <= _MOST_WAITING_BYTES
            if fits:
                self._waiting_bytes += size
        if fits:
            try:
                self._queue.put_nowait((config, record))
            except Full:
                self._release(size)
            else:
                return
        self._count(record.model, Code.RESOURCE_EXHAUSTED.name)

    def _release(self, size: int) -> None:
        with self._lock:
            self._waiting_bytes -= size

    def _step(self) -> bool:
        """Waits for work and does it; returns False at the end."""
        match self._queue.get():
            case None:
                self._keep(frozenset())
                return False
            case frozenset() as prefixes:
                self._keep(prefixes)
            case config, record:
                self._write(config, record)
        return True

    def _keep(self, prefixes: frozenset[str]) -> None:
        for prefix in self._files.keys() - prefixes:
            self._losses.pop(prefix, None)
            try:
                self._files.pop(prefix).close()
            except OSError as error:  # network file systems report late
                self._tell_of_loss(prefix, error)

    def _write(self, config: Logging, record: CallRecord) -> None:
        files = self._files.setdefault(config.filename_prefix, LogFiles(config.filename_prefix))
        try:
            files.append(prediction_log(record, config.sampling_rate).SerializeToString())
        except Exception as error:  # noqa: BLE001 - one failure must not end all logging
            self._count(record.model, Code.UNAVAILABLE.name)
            self._tell_of_loss(config.filename_prefix, error)
        else:
            self._count(record.model, OK)
            self._tell_of_end(config.filename_prefix)
        finally:
            self._release(_size(record))

    def _tell_of_loss(self, prefix: str, error: Exception) -> None:
        lost, _ = self._losses.get(prefix, (0, 0.0))
        self._losses[prefix] = (lost + 1, self._clock())
        if not lost:
            _log.error(
                "Could not log requests to %s: %s. Requests are lost until this is fixed",
                prefix,
                error,
            )

    def _tell_of_end(self, prefix: str) -> None:
        """Reports that logging works again, once it has for a while."""
        lost, last = self._losses.get(prefix, (0, 0.0))
        if lost and self._clock() - last >= _CALM_SECONDS:
            del self._losses[prefix]
            _log.info("Requests are logged to %s again; %d were lost", prefix, lost)


def _size(record: CallRecord) -> int:
    """About the bytes that a record holds; strings count as the body they came in."""
    arrays = (*record.inputs.values(), *record.outputs.values())
    return record.body_bytes + sum(array.nbytes for array in arrays)
