"""Classify, Regress and MultiInference: `tf.Example`s in; labels, scores or values out.

Source: servables/tensorflow/classifier.cc, regressor.cc, multi_inference.cc.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lambda_serving import protos
from lambda_serving.api.prediction_threads import Deadline
from lambda_serving.api.rpc import model_service
from lambda_serving.call_record import UNRECORDED, CallRecord
from lambda_serving.core.basic_manager import Loaded, Manager
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument, Unimplemented
from lambda_serving.servables import inference
from lambda_serving.servables.inference import Classifications, Run
from lambda_serving.servables.servable import DEFAULT_SIGNATURE

__all__ = [
    "classification",
    "classification_result",
    "multi_inference",
    "regression",
    "regression_result",
]

Admit = Callable[[int], None]
"""Is called with the bytes that the examples of a request will take; it may raise."""
_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"


def classification(loaded: Loaded, request: Any, admit: Admit) -> Run[Any]:
    """The run whose result is a `ClassificationResponse`; raises as `inference.classification`."""
    examples = inference.serialized_examples(request.input, admit)
    return _classification(loaded, request.model_spec, examples).then(
        lambda result: protos.message("tensorflow.serving.ClassificationResponse")(
            result=result, model_spec=_spec(loaded, request.model_spec)
        )
    )


def regression(loaded: Loaded, request: Any, admit: Admit) -> Run[Any]:
    """The run whose result is a `RegressionResponse`; raises as `inference.regression`."""
    examples = inference.serialized_examples(request.input, admit)
    return _regression(loaded, request.model_spec, examples).then(
        lambda result: protos.message("tensorflow.serving.RegressionResponse")(
            result=result, model_spec=_spec(loaded, request.model_spec)
        )
    )


def multi_inference(
    manager: Manager,
    request: Any,
    admit: Admit,
    deadline: Deadline,
    record: CallRecord = UNRECORDED,
) -> Any:
    """`MultiInferenceResponse`: each task runs by itself, all on the version of the first.

    Raises InvalidArgument for tasks with several models or with a signature twice, Unimplemented
    for a method that is neither classify nor regress, and what the tasks raise.
    """
    if not request.tasks:
        raise InvalidArgument("ModelSpec has no name specified.")
    loaded = model_service.loaded(manager, request.tasks[0])
    _check(request.tasks, loaded)
    examples = inference.serialized_examples(request.input, admit)
    response = protos.message("tensorflow.serving.MultiInferenceResponse")()
    for task in request.tasks:
        spec = task.model_spec
        result = response.results.add(model_spec=_spec(loaded, spec))
        classifies = task.method_name == _CLASSIFY
        run = (_classification if classifies else _regression)(loaded, spec, examples)
        record.decoded(loaded.id.version, run.signature.name, run.inputs)
        found = run.perform(loaded.servable, deadline.left_ms(), record)
        filled = result.classification_result if classifies else result.regression_result
        filled.CopyFrom(found)
    return response


def classification_result(found: Classifications) -> Any:
    """`ClassificationResult`; labels that the model does not give are empty, scores are 0."""
    known = found.classes if found.classes is not None else found.scores
    assert known is not None  # a classification has at least one of the two
    labels = (
        found.classes.tolist()
        if found.classes is not None
        else [[""] * known.shape[1]] * len(known)
    )
    scores = (
        found.scores.tolist() if found.scores is not None else [[0.0] * known.shape[1]] * len(known)
    )
    result = protos.message("tensorflow.serving.ClassificationResult")()
    for row in zip(labels, scores, strict=True):
        example = result.classifications.add()
        for label, score in zip(*row, strict=True):
            example.classes.add(label=label, score=score)
    return result


def regression_result(values: Array) -> Any:
    """`RegressionResult`, with a value for each example."""
    result = protos.message("tensorflow.serving.RegressionResult")()
    for value in values.tolist():
        result.regressions.add(value=value)
    return result


def _check(tasks: Sequence[Any], loaded: Loaded) -> None:
    seen = set()
    for task in tasks:
        if not task.model_spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != loaded.id.name:
            raise InvalidArgument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in loaded.servable.signatures:
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in {_CLASSIFY, _REGRESS}:
            raise Unimplemented(f"Unsupported signature method_name: {task.method_name}")


def _spec(loaded: Loaded, asked: Any) -> Any:
    """The `ModelSpec` of an answer: the one asked for, with the version that answered."""
    spec = protos.message("tensorflow.serving.ModelSpec")(
        name=asked.name, signature_name=asked.signature_name or DEFAULT_SIGNATURE
    )
    spec.version.value = loaded.id.version
    return spec


def _classification(loaded: Loaded, spec: Any, examples: Sequence[bytes]) -> Run[Any]:
    run = inference.classification(loaded.servable, spec.signature_name, examples)
    return run.then(classification_result)


def _regression(loaded: Loaded, spec: Any, examples: Sequence[bytes]) -> Run[Any]:
    run = inference.regression(loaded.servable, spec.signature_name, examples)
    return run.then(regression_result)
