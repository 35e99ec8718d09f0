"""Warm-up: runs the requests that an export carries before the version becomes available.

Source: servables/tensorflow/saved_model_warmup_util.cc. The file is a TFRecord of serialized
`tensorflow.serving.PredictionLog`; every record must succeed, or the load fails.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from lambda_serving import protos
from lambda_serving.dtypes import Array
from lambda_serving.errors import DataLoss, InvalidArgument, ServingError, Unimplemented
from lambda_serving.protos.tensor_proto import to_array
from lambda_serving.protos.tfrecord import records
from lambda_serving.servables import inference
from lambda_serving.servables.servable import Servable

__all__ = ["MAX_RECORDS", "WARMUP_FILE", "WarmUp", "recorded", "warm_up"]

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
_SHOWN = 100  # bytes of an invalid record in its error

_log = logging.getLogger(__name__)


class WarmUp(NamedTuple):
    """A finished warm-up; `status` is OK or the name of a canonical code."""

    path: Path
    status: str
    records: int
    """How many were read: 0 if the file is not a TFRecord."""
    seconds: float


def warm_up(
    servable: Servable,
    export_dir: Path,
    iterations: int = 1,
    warmed_up: Callable[[WarmUp], None] | None = None,
) -> int:
    """Runs each warm-up record of an export `iterations` times; returns the number of records.

    Calls `warmed_up` with the outcome; without a file of records, does nothing.
    Raises what the first failing record raises, DataLoss for a file that is not a TFRecord,
    InvalidArgument for more than 1000 records, Unimplemented for a kind of record that is not
    served.
    """
    path = export_dir / WARMUP_FILE
    if not path.exists():
        _log.info("No warmup data file found at %s", path)
        return 0
    _log.info(
        "Starting to read warmup data for model at %s with model-warmup-options"
        " num_request_iterations: %d",
        *(path, iterations),
    )
    began, status, logs = perf_counter(), "OK", list[Any]()
    try:
        logs = _logs(path)
        _warm_up(servable, path, logs, iterations)
    except ServingError as error:
        status = error.code.name
        raise
    finally:
        seconds = perf_counter() - began
        if warmed_up:
            warmed_up(WarmUp(export_dir, status, len(logs), seconds))
    _log.info(
        "Finished reading warmup data for model at %s. Number of warmup records read: %d. Elapsed"
        " time (microseconds): %d.",
        *(path, len(logs), seconds * 1e6),
    )
    return len(logs)


def _warm_up(servable: Servable, path: Path, logs: Sequence[Any], iterations: int) -> None:
    for number, log in enumerate(logs):
        try:
            for _ in range(iterations):
                _replay(servable, log)
        except ServingError as error:
            raise type(error)(f"Warm-up record {number} of {path} failed: {error}") from error


def recorded(servable: Servable, export_dir: Path) -> list[tuple[str, dict[str, Array]]]:
    """The signature name and inputs of each run of a warm-up; raises as `warm_up` does."""
    return [run for log in _logs(export_dir / WARMUP_FILE) for run in _runs(servable, log)]


def _logs(path: Path) -> list[Any]:
    if not path.exists():
        return []
    records = list(islice(_records(path), MAX_RECORDS + 1))
    if len(records) > MAX_RECORDS:
        raise InvalidArgument(
            f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
        )
    return [_parse(record, path) for record in records]


def _replay(servable: Servable, log: Any) -> None:
    if log.WhichOneof("log_type") == "predict_log":
        for name, inputs in _runs(servable, log):
            servable.run(name, inputs)
    for name, examples, classifies in _tasks(log):
        run = inference.classification if classifies else inference.regression
        run(servable, name, examples).perform(servable)


def _runs(servable: Servable, log: Any) -> Iterator[tuple[str, dict[str, Array]]]:
    if log.WhichOneof("log_type") == "predict_log":
        request = log.predict_log.request
        signature = servable.signature(request.model_spec.signature_name)
        given = {alias: to_array(tensor) for alias, tensor in request.inputs.items()}
        yield signature.name, {**signature.defaults, **given}
    for name, examples, _ in _tasks(log):
        yield name, inference.inputs_of(examples)


def _tasks(log: Any) -> Iterator[tuple[str, list[bytes], bool]]:
    """The tasks of a log: the signature's name, the examples, and whether it classifies them."""
    examples = inference.serialized_examples
    match log.WhichOneof("log_type"):
        case "classify_log" | "regress_log" as kind:
            request = getattr(log, kind).request
            name = request.model_spec.signature_name
            yield name, examples(request.input), kind == "classify_log"
        case "multi_inference_log":
            request = log.multi_inference_log.request
            for task in request.tasks:
                classifies = task.method_name == "tensorflow/serving/classify"
                yield task.model_spec.signature_name, examples(request.input), classifies
        case "predict_log" | None:  # there is nothing to run
            pass
        case kind:
            number = log.DESCRIPTOR.fields_by_name[kind].number
            raise Unimplemented(f"Unsupported log_type for warmup: {number} ({kind})")


def _parse(record: bytes, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return protos.message("tensorflow.serving.PredictionLog").FromString(record)
    except DecodeError as error:
        shown = record[:_SHOWN].decode("ascii", "backslashreplace")
        raise InvalidArgument(
            f"Failed to parse warmup record: {shown} from {path}. It is no PredictionLog: {error}"
        ) from error


def _records(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from records(file, path.stat().st_size)
    except DataLoss as error:
        raise DataLoss(
            f"Failed to read warmup records at {path}."
            " Please verify your warmup data is in TFRecord format."
        ) from error
