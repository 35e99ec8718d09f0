"""Predict: tensors in, tensors out (servables/tensorflow/predict_util.cc)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

from lambda_serving import protos
from lambda_serving.api.rpc.large_answers import predict_response
from lambda_serving.core.basic_manager import Loaded
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import FailedPrecondition, InvalidArgument
from lambda_serving.protos.tensor_proto import Claim, claim
from lambda_serving.servables.inference import Run
from lambda_serving.servables.servable import (
    DEFAULT_SIGNATURE,
    Servable,
    Signature,
    TensorSpec,
    names_differ,
)

__all__ = ["elements", "prediction"]

_DTYPES = set(DType) - {DType.INVALID}


def prediction(
    loaded: Loaded, request: Any, *, admit: Callable[[int], None], as_content: bool
) -> Run[bytes]:
    """The run that a request asks for, whose result is a serialized `PredictResponse`.

    `admit` is called with the bytes that all inputs will take. Raises FailedPrecondition for an
    unknown signature, InvalidArgument for inputs or an `output_filter` that do not fit the
    signature, and what `admit` raises.
    """
    signature = _signature(loaded.servable, request.model_spec.signature_name)
    claims = _claims(signature, request.inputs)
    admit(sum(claimed.size for claimed in claims.values()))
    inputs = {
        alias: _array(alias, claims[alias]) if alias in claims else signature.defaults[alias]
        for alias in signature.inputs
    }
    wanted = _wanted(signature, request.output_filter)

    def conclude(outputs: Mapping[str, Array]) -> bytes:
        response = protos.message("tensorflow.serving.PredictResponse")()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = loaded.id.version
        response.model_spec.signature_name = signature.name
        return predict_response(
            response, {alias: outputs[alias] for alias in wanted}, as_content=as_content
        )

    return Run(signature, inputs, conclude, tuple(request.output_filter))


def elements(request: Any) -> int:
    """The number of elements of all inputs of a request, according to their shapes."""
    protos_of = request.inputs.values()
    return sum(prod([dim.size for dim in proto.tensor_shape.dim]) for proto in protos_of)


def _signature(servable: Servable, name: str) -> Signature:
    if signature := servable.callable_signature(name):
        return signature
    raise FailedPrecondition(f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.')


def _claims(signature: Signature, protos_by_alias: Mapping[str, Any]) -> dict[str, Claim]:
    """The claims of the protos in a request, by alias; inputs left out must have defaults."""
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
    return {
        alias: _claim(alias, position, protos_by_alias[alias], spec)
        for position, (alias, spec) in enumerate(signature.inputs.items())
        if alias in given
    }


def _claim(alias: str, position: int, proto: Any, spec: TensorSpec) -> Claim:
    """Raises the error of TensorFlow's session for another dtype, whatever else is wrong."""
    if proto.dtype in _DTYPES and proto.dtype != spec.dtype:
        given = DType(proto.dtype)
        raise InvalidArgument(
            f"Expects arg[{position}] to be {spec.dtype.label} but {given.label} is provided"
        )
    try:
        return claim(proto)
    except InvalidArgument as error:
        raise _unparsed(alias, error) from error


def _array(alias: str, claimed: Claim) -> Array:
    try:
        return claimed.array()
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
