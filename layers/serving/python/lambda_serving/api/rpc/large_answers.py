"""Large answers of Predict, written in pieces so that other calls are answered meanwhile.

protobuf writes a message in one go and holds Python's lock until it is done. Here large tensors are
written apart from the message: its fields may be in any order, and the values of a repeated field
in several parts (https://protobuf.dev/programming-guides/encoding).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lambda_serving import protos
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import ResourceExhausted
from lambda_serving.protos.tensor_proto import add_values, content, describe, fill
from lambda_serving.protos.wire import head

__all__ = ["predict_response", "serialized"]

_LARGE = 2**16
"""Answers with more elements are written in pieces, of so many elements each."""
_MOST = 2**31 - 1  # bytes, protobuf's own limit
_TOO_LARGE = "There is no memory for the answer, or it is over 2 GiB. Send less in a request"


def serialized(message: Any) -> bytes:
    """A message as bytes. Raises ResourceExhausted if it is too large."""
    from google.protobuf.message import EncodeError

    try:
        body: bytes = message.SerializeToString()
    except EncodeError as error:
        raise ResourceExhausted(_TOO_LARGE) from error
    return body


def predict_response(
    response: Any, outputs: Mapping[str, Array], *, as_content: bool = False
) -> bytes:
    """The bytes of a `PredictResponse` with these outputs added; `as_content` is that of `fill`.

    Raises ResourceExhausted if it is too large.
    """
    if sum(array.size for array in outputs.values()) <= _LARGE:
        for name, array in outputs.items():
            fill(response.outputs[name], array, as_content=as_content)
        return serialized(response)
    number = response.DESCRIPTOR.fields_by_name["outputs"].number
    pieces = [serialized(response)]
    for name, array in outputs.items():
        key = name.encode()
        tensor = list(_tensor(array, as_content=as_content))
        size = sum(map(len, tensor))
        before = head(1, len(key)) + key + head(2, size)
        pieces += [head(number, len(before) + size), before, *tensor]
    if sum(map(len, pieces)) > _MOST:
        raise ResourceExhausted(_TOO_LARGE)
    return b"".join(pieces)  # other threads run meanwhile


def _tensor(array: Array, *, as_content: bool) -> Iterator[bytes]:
    """A `TensorProto` in pieces."""
    new = protos.message("tensorflow.TensorProto")
    described = new()
    describe(described, array)
    yield described.SerializeToString()
    flat = array.reshape(-1)
    parts = (flat[start : start + _LARGE] for start in range(0, len(flat), _LARGE))
    if as_content:
        held = [content(array)] if DType.of(array.dtype) is DType.STRING else map(content, parts)
        yield from _in_one(described, "tensor_content", list(held))
    elif array.dtype.itemsize == 1 and DType.of(array.dtype).name.startswith("FLOAT"):
        yield from _in_one(described, "float8_val", [part.tobytes() for part in parts])
    else:
        for part in parts:
            values = new()
            add_values(values, part)
            yield values.SerializeToString()


def _in_one(proto: Any, name: str, parts: list[bytes]) -> Iterator[bytes]:
    """A field of bytes, which cannot be in several parts."""
    yield head(proto.DESCRIPTOR.fields_by_name[name].number, sum(map(len, parts)))
    yield from parts
