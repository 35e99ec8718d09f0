"""Predict requests: JSON to arrays.

Source: `FillPredictRequestFromJson` in tensorflow_serving/util/json_tensor.cc.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from lambda_serving.api.codec import numbers, row_format, values
from lambda_serving.api.codec.json_in_errors import echo, plain
from lambda_serving.api.codec.json_reader import Json, Limits
from lambda_serving.api.codec.json_reader import parse as parse_json
from lambda_serving.api.codec.numbers import Numbers
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument, ServingError
from lambda_serving.servables.servable import Signature, TensorSpec

__all__ = [
    "Document",
    "Format",
    "decode",
    "decode_row",
    "decode_rows",
    "parse",
    "parse_object",
    "signature_name",
]

_DEFAULT_LIMITS = Limits()


class Format(Enum):
    """How a request holds its inputs, which is also how the response holds its outputs."""

    ROW = auto()
    """A list of `instances`, each with a value for every input."""
    COLUMNAR = auto()
    """`inputs`, each with a value of its own."""


class Document(NamedTuple):
    """A request whose JSON and signature name have been read, but not its values."""

    signature_name: str
    content: Numbers | dict[str, Json]
    body: bytes
    limits: Limits


def parse(body: bytes, limits: Limits = _DEFAULT_LIMITS) -> Document:
    """The document in the body of a predict request.

    `signature_name` is empty if the request has none.
    Raises InvalidArgument for a body that is not JSON, not an object, nested over the limit, or
    has a `signature_name` that is not a string.
    """
    if limits.nesting >= numbers.NESTING and (content := numbers.read(body)):
        return Document(content.signature_name, content, body, limits)
    members = parse_object(body, limits)
    return Document(signature_name(members), members, body, limits)


def parse_object(body: bytes, limits: Limits) -> dict[str, Json]:
    """The members of a body that is a JSON object. Raises InvalidArgument for any other."""
    root = parse_json(body, limits)
    if not isinstance(root, dict):
        raise InvalidArgument(f"JSON Value: {echo(root)} Is not object")
    return root


def signature_name(members: dict[str, Json]) -> str:
    """The `signature_name` of a request, empty if it has none. Raises InvalidArgument."""
    name = members.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {echo(members)} not formatted correctly."
            " 'signature_name' key must be a string value."
        )
    return plain(name)


def decode(document: Document, signature: Signature) -> tuple[Format, dict[str, Array]]:
    """The format of the request, and the arrays of its inputs by name.

    Each array has the dtype of its input; strings are objects of `bytes`. Shapes are those of the
    values and are not compared with the signature.
    Raises InvalidArgument or Unimplemented in TensorFlow Serving's words.
    """
    if not signature.inputs:
        raise InvalidArgument(
            f"Failed to get input map for signature: {document.signature_name or 'DEFAULT'}"
        )
    members = document.content
    if isinstance(members, Numbers):
        arrays = members.arrays(signature.inputs)
        if arrays is not None:
            return Format.ROW if members.is_row else Format.COLUMNAR, arrays
        members = parse_object(document.body, document.limits)
    try:
        return _decode(members, signature.inputs)
    except ServingError as error:
        raise error.with_traceback(None) from None  # its frames hold many values


def decode_row(value: bytes, signature: Signature) -> dict[str, Array]:
    """The arrays of the inputs by name, of shape [1, *shape of one], for one of `instances`.

    Raises what `parse` and `decode` raise, and InvalidArgument if `value` is not one value.
    """
    _, arrays = decode(parse(numbers.instances([value])), signature)
    for array in arrays.values():
        if len(array) != 1:
            raise InvalidArgument(f"Expecting one value but got {len(array)}")
    return arrays


def decode_rows(values: Sequence[bytes], signature: Signature) -> dict[str, Array] | None:
    """As `decode_row` for many at once: arrays of shape [values, *shape of one].

    None unless all hold numbers only and have one shape; `decode_row` then reads each by itself.
    """
    content = numbers.read_values(values)
    arrays = content and content.arrays(signature.inputs)
    if not arrays or any(len(array) != len(values) for array in arrays.values()):
        return None
    return arrays


def _decode(
    members: dict[str, Json], inputs: Mapping[str, TensorSpec]
) -> tuple[Format, dict[str, Array]]:
    if "instances" not in members:
        if "inputs" not in members:
            raise InvalidArgument("Missing 'inputs' or 'instances' key")
        return Format.COLUMNAR, _columnar(members["inputs"], inputs)
    if "inputs" in members:
        raise InvalidArgument(
            f"JSON Value: {echo(members)} Not formatted correctly expecting only one of"
            " 'inputs' or 'instances' keys to exist "
        )
    instances = members["instances"]
    if not isinstance(instances, list):
        raise InvalidArgument(
            f"JSON Value: {echo(members)} Expecting 'instances' to be an list/array"
        )
    if not instances:
        raise InvalidArgument(f"JSON Value: {echo(members)} No values in 'instances' array")
    return Format.ROW, row_format.decode(instances, inputs)


def _columnar(value: Json, inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(value, dict) or values.is_base64(value):
        if len(inputs) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        return {name: values.array(value, spec.dtype) for name, spec in inputs.items()}
    arrays = {}
    for name, spec in inputs.items():
        if name not in value:
            raise InvalidArgument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = values.array(value[name], spec.dtype)
    return arrays
