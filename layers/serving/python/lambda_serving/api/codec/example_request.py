"""Classify and regress requests: JSON to serialized `tf.Example` messages.

Source: `FillClassifyRegressRequestFromJson` in tensorflow_serving/util/json_tensor.cc.
"""

from typing import NamedTuple

import numpy as np

from lambda_serving.api.codec import values
from lambda_serving.api.codec.freeing_json import empty
from lambda_serving.api.codec.json_in_errors import echo, plain, type_name
from lambda_serving.api.codec.json_reader import Json, Limits
from lambda_serving.api.codec.predict_request import parse_object, signature_name
from lambda_serving.errors import InvalidArgument, PayloadTooLarge
from lambda_serving.protos.wire import field, varint

__all__ = ["ExamplesRequest", "parse_examples"]

_DEFAULT_LIMITS = Limits()
_BYTES, _FLOAT, _INT64 = 1, 2, 3
"""The fields of `Feature` (tensorflow/core/example/feature.proto)."""
_KIND_NAMES = {_BYTES: "bytes", _FLOAT: "float", _INT64: "int64"}


class ExamplesRequest(NamedTuple):
    """A request to classify or to regress: serialized `tf.Example` messages."""

    signature_name: str
    examples: list[bytes]


def parse_examples(body: bytes, limits: Limits = _DEFAULT_LIMITS) -> ExamplesRequest:
    """The examples in the body of a classify or regress request.

    A context is written in front of each example: protobuf merges the two.
    Raises InvalidArgument in TensorFlow Serving's words, which say classify for regress as well.
    """
    members = parse_object(body, limits)
    name = signature_name(members)
    context = _example(members["context"]) if "context" in members else b""
    if "examples" not in members:
        raise InvalidArgument(
            f"JSON Value: {echo(members)} When method is classify, key 'examples' is expected"
            " and was not found"
        )
    examples = members["examples"]
    if not isinstance(examples, list):
        raise InvalidArgument(
            f"JSON Value: {echo(members)} Expecting 'examples' value to be an list/array"
        )
    if not examples:
        raise InvalidArgument(f"JSON Value: {echo(members)} 'examples' value is an empty array")
    return ExamplesRequest(name, _in_context(context, examples, limits.examples))


def _in_context(context: bytes, examples: list[Json], limit: int) -> list[bytes]:
    if (size := len(context) * len(examples)) > limit:
        raise PayloadTooLarge(
            f"The context repeated for {len(examples)} examples takes {size} bytes, over the limit"
            f" of {limit}. Send fewer examples in a request"
        )
    written: list[bytes] = []
    try:
        written.extend(context + _example(example) for example in examples)
    except InvalidArgument:
        empty(written)
        raise
    return written


def _example(value: Json) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {type_name(value)}")
    features = bytearray()
    for name, content in value.items():
        features += field(1, field(1, values.string(name)) + field(2, _feature(name, content)))
    return field(1, bytes(features))


def _feature(name: str, content: Json) -> bytes:
    elements = content if isinstance(content, list) else [content]
    if not elements:
        return b""
    first, written = 0, bytearray()
    for element in elements:
        kind = _kind(name, element)
        first = first or kind
        if kind != first:
            raise InvalidArgument(
                f"Unexpected element type in feature: {plain(name)}"
                f" expecting type: {_KIND_NAMES[first]}"
            )
        item = _item(name, element)
        written += field(1, item) if first == _BYTES else item
    return field(first, bytes(written) if first == _BYTES else field(1, bytes(written)))


def _kind(name: str, element: Json) -> int:
    match element:
        case bool() | int():
            return _INT64
        case float():
            return _FLOAT
        case str():
            return _BYTES
    if values.is_base64(element):
        return _BYTES
    unexpected = type_name(element)
    raise InvalidArgument(
        f"Feature: {plain(name)} has element with unexpected JSON type: {unexpected}"
    )


def _item(name: str, element: Json) -> bytes:
    """An element as it is encoded in its list."""
    if isinstance(element, float):
        with np.errstate(over="ignore"):
            return bytes(np.float64(element).astype("<f4").tobytes())
    if not isinstance(element, int):
        return values.string(element)
    if element >= 2**63:
        raise InvalidArgument(
            f"Feature: {plain(name)} has uint64_t element. Only int64_t is supported."
        )
    return varint(element % 2**64)
