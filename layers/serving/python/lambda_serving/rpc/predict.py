"""Predict: tensors in, tensors out (servables/tensorflow/predict_util.cc)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lambda_serving import protos
from lambda_serving.dtypes import Array
from lambda_serving.errors import FailedPrecondition, InvalidArgument
from lambda_serving.inference import Run
from lambda_serving.manager import Loaded
from lambda_serving.servable import (
    DEFAULT_SIGNATURE,
    Servable,
    Signature,
    TensorSpec,
    names_differ,
)
from lambda_serving.tensor_proto import byte_size, dtype_of, fill, to_array

__all__ = ["prediction"]


def prediction(loaded: Loaded, request: Any, *, max_bytes: int, as_content: bool) -> Run[Any]:
    """The run of a loaded version that a request asks for, to a `PredictResponse`.

    The inputs together may not be larger than `max_bytes` as arrays. Raises FailedPrecondition for
    an unknown signature, InvalidArgument for inputs or an `output_filter` that are not the
    signature's.
    """
    signature = _signature(loaded.servable, request.model_spec.signature_name)
    inputs = _inputs(signature, request.inputs, max_bytes)
    wanted = _wanted(signature, request.output_filter)

    def conclude(outputs: Mapping[str, Array]) -> Any:
        response = protos.message("tensorflow.serving.PredictResponse")()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = loaded.id.version
        response.model_spec.signature_name = signature.name
        for alias in wanted:
            fill(response.outputs[alias], outputs[alias], as_content=as_content)
        return response

    return Run(signature, inputs, conclude, tuple(request.output_filter))


def _signature(servable: Servable, name: str) -> Signature:
    if signature := servable.callable_signature(name):
        return signature
    raise FailedPrecondition(f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.')


def _inputs(
    signature: Signature, protos_by_alias: Mapping[str, Any], max_bytes: int
) -> dict[str, Array]:
    """Arrays of a request's protos by alias, defaults where it has none."""
    given, wanted = set(protos_by_alias), signature.inputs.keys()
    fewer = len(given) < len(wanted) and not signature.defaults
    if len(given) > len(wanted) or fewer:
        raise names_differ(given, signature)
    for alias in wanted:
        if alias not in given and alias not in signature.defaults:
            raise _missing(alias, given, signature)
    if given - wanted:
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_list(given & wanted)},"
            f" request input: {_list(given)}"
        )
    for position, (alias, spec) in enumerate(signature.inputs.items()):
        if alias in given:
            _check_dtype(position, alias, protos_by_alias[alias], spec)
    return _arrays(signature, protos_by_alias, max_bytes)


def _arrays(
    signature: Signature, protos_by_alias: Mapping[str, Any], max_bytes: int
) -> dict[str, Array]:
    arrays = {}
    for alias in signature.inputs:
        if alias not in protos_by_alias:
            arrays[alias] = signature.defaults[alias]
            continue
        arrays[alias] = _array(alias, protos_by_alias[alias], max_bytes)
        max_bytes -= byte_size(arrays[alias])
    return arrays


def _check_dtype(position: int, alias: str, proto: Any, spec: TensorSpec) -> None:
    """Raises, before anything is copied, what TensorFlow's session says of another dtype."""
    try:
        dtype = dtype_of(proto)
    except InvalidArgument as error:
        raise _unparsed(alias, error) from error
    if dtype is not spec.dtype:
        raise InvalidArgument(
            f"Expects arg[{position}] to be {spec.dtype.label} but {dtype.label} is provided"
        )


def _array(alias: str, proto: Any, max_bytes: int) -> Array:
    try:
        return to_array(proto, max_bytes)
    except InvalidArgument as error:
        raise _unparsed(alias, error) from error


def _unparsed(alias: str, error: InvalidArgument) -> InvalidArgument:
    return InvalidArgument(f"tensor parsing error: {alias}. {error}")


def _missing(alias: str, given: Iterable[str], signature: Signature) -> InvalidArgument:
    """In the words of tensorflow/cc/saved_model/util.cc."""
    return InvalidArgument(
        f"Signature input alias: {alias}(feed name: {signature.inputs[alias].tensor_name}) not"
        " found in request and no default value provided. Inputs expected to be in the request"
        f" {{{_list(given)}}}, or default input alias set: {_list(signature.defaults)}"
    )


def _wanted(signature: Signature, output_filter: Sequence[str]) -> Sequence[str]:
    seen = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias}"
                f" Outputs expected to be in the set {{{_list(signature.outputs)}}}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return output_filter or list(signature.outputs)


def _list(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
