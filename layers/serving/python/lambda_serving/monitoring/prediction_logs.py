"""The logged form of a request: a `PredictionLog`, as in warm-up files.

Source: apis/prediction_log.proto, core/logging.proto.
"""

import time
from typing import Any

from lambda_serving import protos
from lambda_serving.api.rpc import examples
from lambda_serving.call_record import CallRecord
from lambda_serving.protos.tensor_proto import fill
from lambda_serving.servables.inference import Classifications

__all__ = ["LOGGED", "prediction_log"]

LOGGED = frozenset(("predict", "classify", "regress"))
"""The APIs whose requests can be logged, in lower case."""


def prediction_log(record: CallRecord, sampling_rate: float) -> Any:
    """The `PredictionLog` of a call that succeeded, from the arrays that ran."""
    log = protos.message("tensorflow.serving.PredictionLog")()
    log.log_metadata.sampling_config.sampling_rate = sampling_rate
    log.log_metadata.timestamp_secs = int(time.time())
    match record.api.lower():
        case "predict":
            part = log.predict_log
            for name, array in record.inputs.items():
                fill(part.request.inputs[name], array)
            for name, array in record.outputs.items():
                fill(part.response.outputs[name], array)
        case "classify":
            part = log.classify_log
            _put_examples(part.request.input, record)
            found = Classifications(record.outputs.get("classes"), record.outputs.get("scores"))
            part.response.result.CopyFrom(examples.classification_result(found))
        case _:
            part = log.regress_log
            _put_examples(part.request.input, record)
            values = record.outputs["outputs"].reshape(-1)
            part.response.result.CopyFrom(examples.regression_result(values))
    for spec in (log.log_metadata.model_spec, part.request.model_spec, part.response.model_spec):
        _put_spec(spec, record)
    return log


def _put_examples(request_input: Any, record: CallRecord) -> None:
    [serialized] = record.inputs.values()
    for example in serialized:
        request_input.example_list.examples.add().MergeFromString(example)


def _put_spec(spec: Any, record: CallRecord) -> None:
    spec.name = record.model
    spec.version.value = record.version
    spec.signature_name = record.signature
