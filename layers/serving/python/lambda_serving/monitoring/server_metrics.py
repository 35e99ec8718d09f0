"""A server's metrics: TensorFlow Serving's, and our own.

Sources of names, labels and buckets: servables/tensorflow/util.cc and saved_model_warmup_util.cc,
core/request_logger.cc, batching/batching_session.cc and batching_util.h,
tensorflow/cc/saved_model/loader.cc. Times are in microseconds.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from lambda_serving.call_record import OK, CallRecord
from lambda_serving.errors import ServingError
from lambda_serving.monitoring.metrics import Metric, Metrics, Snapshot, exponential
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.warmup import WarmUp

if TYPE_CHECKING:
    from lambda_serving.batching import Report

__all__ = ["ServerMetrics"]

_LATENCIES = exponential(10, 1.8, 33)
_BATCH_SIZES = exponential(1, 2, 14)

_ALL: list[Metric] = []


def _metric(name: str, labels: tuple[str, ...] = (), limits: tuple[float, ...] = ()) -> Metric:
    _ALL.append(Metric(name, labels, limits))
    return _ALL[-1]


_REQUEST_COUNT = _metric("/tensorflow/serving/request_count", ("model_name", "status"))
_REQUEST_LATENCY = _metric(
    "/tensorflow/serving/request_latency", ("model_name", "API", "entrypoint"), _LATENCIES
)
_RUNTIME_LATENCY = _metric(
    "/tensorflow/serving/runtime_latency", ("model_name", "API", "runtime"), _LATENCIES
)
_EXAMPLE_COUNTS = _metric(
    "/tensorflow/serving/request_example_counts", ("model",), exponential(1, 2, 15)
)
_EXAMPLE_TOTAL = _metric("/tensorflow/serving/request_example_count_total", ("model",))
_WARMUP_LATENCY = _metric(
    "/tensorflow/serving/model_warmup_latency", ("model_path", "status"), _LATENCIES
)
_WARMUP_RECORDS = _metric("/tensorflow/serving/model_warmup_records_read", ("model_path", "status"))
_LOG_COUNT = _metric("/tensorflow/serving/request_log_count", ("model_name", "status_code"))
_LOAD_ATTEMPTS = _metric("/tensorflow/cc/saved_model/load_attempt_count", ("model_path", "status"))
_LOAD_LATENCY = _metric("/tensorflow/cc/saved_model/load_latency", ("model_path",))
_QUEUING = _metric(
    "/tensorflow/serving/batching_session/queuing_latency",
    ("thread_pool_name",),
    exponential(100, 1.2, 52),
)
_WRAPPED_RUNS = _metric("/tensorflow/serving/batching_session/wrapped_run_count")
_INPUT_SIZE = _metric("/tensorflow/serving/batching_session/input_batch_size", (), _BATCH_SIZES)
_PROCESSED_SIZE = _metric(
    "/tensorflow/serving/batching_session/processed_batch_size", (), _BATCH_SIZES
)
_PADDING_SIZE = _metric(
    "/tensorflow/serving/batching_session/padding_size", ("execution_batch_size",), _BATCH_SIZES
)
_DECODE_LATENCY = _metric("/lambda_serving/json_decode_latency", ("model_name", "API"), _LATENCIES)
_QUEUE_LATENCY = _metric("/lambda_serving/queue_latency", ("model_name", "API"), _LATENCIES)
_BY_EXAMPLES = {"Classify", "Regress", "MultiInference"}


class ServerMetrics:
    """A server's metrics; `serves` tells whether a name is that of a served model.

    Clients must not be able to add labels, so names that are not served count as "".
    """

    def __init__(self) -> None:
        self._metrics = Metrics(_ALL)
        self.serves: Callable[[str], bool] = lambda _: False

    def snapshot(self) -> Snapshot:
        return self._metrics.snapshot()

    def call_ended(self, record: CallRecord) -> None:
        """Counts a call; latencies only of calls that succeeded."""
        model = record.model if self.serves(record.model) else ""
        metrics = self._metrics
        metrics.add(_REQUEST_COUNT, model, record.status)
        if record.queue_seconds is not None:
            metrics.observe(_QUEUE_LATENCY, _micros(record.queue_seconds), model, record.api)
        if record.entrypoint == "REST" and record.decode_seconds is not None:
            metrics.observe(_DECODE_LATENCY, _micros(record.decode_seconds), model, record.api)
        if record.run_seconds is not None:
            self._ran(model, record, _micros(record.run_seconds))
        if record.status == OK:
            micros = _micros(record.seconds)
            metrics.observe(_REQUEST_LATENCY, micros, model, record.api, record.entrypoint)

    def batch_ran(self, report: "Report") -> None:
        """Counts a run of a batch."""
        metrics = self._metrics
        metrics.add(_WRAPPED_RUNS)
        metrics.observe(_PROCESSED_SIZE, report.size)
        metrics.observe(_PADDING_SIZE, report.padding, str(report.size))
        for seconds, size in zip(report.queue_seconds, report.sizes, strict=True):
            metrics.observe(_QUEUING, _micros(seconds), report.thread_pool_name)
            metrics.observe(_INPUT_SIZE, size)

    def warmed_up(self, warm_up: WarmUp) -> None:
        """Counts the warm-up of an export that has warm-up records."""
        labels = (str(warm_up.path), warm_up.status)
        self._metrics.observe(_WARMUP_LATENCY, _micros(warm_up.seconds), *labels)
        self._metrics.add(_WARMUP_RECORDS, *labels, amount=warm_up.records)

    def logged(self, model: str, status: str) -> None:
        """Counts a request that was sampled for its model's log."""
        self._metrics.add(_LOG_COUNT, model, status)

    def counting(self, load: Callable[[Path], Servable]) -> Callable[[Path], Servable]:
        """`load`, with its calls counted."""

        def counted(path: Path) -> Servable:
            began = perf_counter()
            try:
                servable = load(path)
            except ServingError:
                self._metrics.add(_LOAD_ATTEMPTS, str(path), "fail")
                raise
            micros = _micros(perf_counter() - began)
            self._metrics.add(_LOAD_ATTEMPTS, str(path), "success")
            self._metrics.add(_LOAD_LATENCY, str(path), amount=micros)
            return servable

        return counted

    def _ran(self, model: str, record: CallRecord, micros: int) -> None:
        api = record.api[:1].upper() + record.api[1:]
        self._metrics.observe(_RUNTIME_LATENCY, micros, model, api, "TF1")
        if api in _BY_EXAMPLES:
            self._metrics.observe(_EXAMPLE_COUNTS, record.rows, model)
            self._metrics.add(_EXAMPLE_TOTAL, model, amount=record.rows)


def _micros(seconds: float) -> int:
    """Whole microseconds, as TensorFlow Serving counts."""
    return int(1e6 * seconds)
