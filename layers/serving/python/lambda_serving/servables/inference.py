"""Classify and regress: serialized `tf.Example`s in, labels and scores or values out.

A signature qualifies by its tensors, not by its method name, because TensorFlow 2 writes the same
method name for all (servables/tensorflow/classifier.cc, regressor.cc).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from lambda_serving import protos
from lambda_serving.call_record import UNRECORDED, CallRecord
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.protos.tensor_proto import STRING_BYTES
from lambda_serving.servables.servable import DEFAULT_SIGNATURE, Servable, Signature

__all__ = [
    "Classifications",
    "Run",
    "classification",
    "inputs_of",
    "regression",
    "serialized_examples",
]

_Result = TypeVar("_Result")
_Other = TypeVar("_Other")

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


class Run(NamedTuple, Generic[_Result]):
    """A pending run of a signature, and the function that turns its outputs into a result.

    `only` is that of `Servable.run`.
    """

    signature: Signature
    inputs: Mapping[str, Array]
    conclude: Callable[[Mapping[str, Array]], _Result]
    only: Sequence[str] = ()

    def then(self, use: Callable[[_Result], _Other]) -> "Run[_Other]":
        """The same run, its result passed through `use`."""
        return Run(self.signature, self.inputs, lambda outputs: use(self.conclude(outputs)))

    def perform(
        self, servable: Servable, timeout_ms: int = 0, record: CallRecord = UNRECORDED
    ) -> _Result:
        """Runs the signature, at most so long (0: no bound); raises what that and `conclude` do."""
        outputs = servable.run(
            self.signature.name, self.inputs, timeout_ms=timeout_ms, only=self.only
        )
        record.ran(outputs)
        return self.conclude(outputs)


class Classifications(NamedTuple):
    """Per example k labels (`bytes`) and k float32 scores, each [n, k]; at least one is there."""

    classes: Array | None
    scores: Array | None


def classification(
    servable: Servable, signature_name: str, examples: Sequence[bytes]
) -> Run[Classifications]:
    """The run that gives labels and scores of `examples`, serialized `tf.Example`s.

    Raises InvalidArgument when the signature does not exist or is not for classification; its
    `conclude` does for outputs of another shape or dtype.
    """
    signature = _signature(servable, signature_name)
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {_text(signature)}")
    if not {_CLASSES, _SCORES} & signature.outputs.keys():
        raise InvalidArgument(
            'Expected classification signature outputs to contain at least one of "classes"'
            f' or "scores". Signature was: {_text(signature)}'
        )

    def conclude(outputs: Mapping[str, Array]) -> Classifications:
        result = Classifications(outputs.get(_CLASSES), outputs.get(_SCORES))
        _check_classifications(result, len(examples))
        return result

    return Run(signature, _some(examples), conclude)


def regression(servable: Servable, signature_name: str, examples: Sequence[bytes]) -> Run[Array]:
    """The run that gives a float32 value for each of `examples`, serialized `tf.Example`s: [n].

    Raises InvalidArgument when the signature does not exist or is not for regression; its
    `conclude` does for an output of another shape or dtype.
    """
    signature = _signature(servable, signature_name)
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if _INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {_text(signature)}")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if _OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {_text(signature)}")

    return Run(
        signature, _some(examples), lambda outputs: _regressed(outputs[_OUTPUTS], len(examples))
    )


def inputs_of(examples: Sequence[bytes]) -> dict[str, Array]:
    """The inputs of a signature for classification or regression."""
    strings: Array = np.empty(len(examples), object)
    strings[:] = examples
    return {_INPUTS: strings}


def serialized_examples(
    request_input: Any, admit: Callable[[int], None] = lambda _: None
) -> list[bytes]:
    """Serialized examples of an `Input`, the context's bytes in front of each (protobuf merge).

    `admit` is first called with the bytes that they will take together; raises what it raises.
    Source: servables/tensorflow/util.cc, `InputToSerializedExampleTensor`.
    """
    if request_input.WhichOneof("kind") == "example_list":
        return _with_context(request_input.example_list.examples, b"", admit)
    both = request_input.example_list_with_context
    return _with_context(both.examples, both.context.SerializeToString(), admit)


def _with_context(
    examples: Sequence[Any], context: bytes, admit: Callable[[int], None]
) -> list[bytes]:
    """Each serialized message with the context in front; calls `admit` first."""
    each = STRING_BYTES + len(context)
    admit(len(examples) * each + sum(example.ByteSize() for example in examples))
    return [context + example.SerializeToString() for example in examples]


def _signature(servable: Servable, name: str) -> Signature:
    if signature := servable.callable_signature(name):
        return signature
    raise InvalidArgument(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}")


def _some(examples: Sequence[bytes]) -> dict[str, Array]:
    if not examples:
        raise InvalidArgument("Input is empty.")
    return inputs_of(examples)


def _regressed(values: Array, examples: int) -> Array:
    if values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got"
            f" {_shape(values)}"
        )
    if values.shape[0] != examples:
        raise InvalidArgument(
            f"Input batch size did not match output batch size: {examples} vs. {values.shape[0]}"
        )
    if (got := DType.of(values.dtype)) is not DType.FLOAT:
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: DT_{got.name}")
    return values.reshape(-1)


def _check_classifications(result: Classifications, examples: int) -> None:
    for array, name, dtype in (
        (result.classes, _CLASSES, DType.STRING),
        (result.scores, _SCORES, DType.FLOAT),
    ):
        if array is None:
            continue
        if array.ndim != 2:
            raise InvalidArgument(
                f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
            )
        if (got := DType.of(array.dtype)) is not dtype:
            raise InvalidArgument(f"Expected {name} Tensor of DT_{dtype.name}. Got: DT_{got.name}")
        if array.shape[0] != examples:
            raise InvalidArgument(
                f"Expected {name} output batch size of {examples}. Got: {array.shape[0]}"
            )
    classes, scores = result.classes, result.scores
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise InvalidArgument(
            "Tensors class and score should match in dim_size(1). Got"
            f" {classes.shape[1]} vs. {scores.shape[1]}"
        )


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _text(signature: Signature) -> str:
    return str(protos.message("tensorflow.SignatureDef").FromString(signature.definition))
